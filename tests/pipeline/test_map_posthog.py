"""From a record of PostHog's JSON doors to rows."""

from dataclasses import replace
from typing import Any

import orjson
import pytest

from nilometer.domain import posthog_record
from nilometer.domain.ai_record import RecordBroken
from nilometer.domain.posthog_record import PostHogEvent, PostHogRecord
from nilometer.pipeline.mapping import Rows, Unmappable, excerpt, map_record
from tests.pipeline.records import batch_envelope, mapped

UUIDS = [f"00000000-0000-4000-8000-00000000000{number}" for number in range(4)]
RECORD = "01980000-0000-7000-8000-000000000000"


def event(**fields: Any) -> dict[str, Any]:
    return {"event": "$ai_generation", "distinct_id": "d", "properties": {}} | fields


def row(sent: dict[str, Any] | str, **record: Any) -> dict[str, Any]:
    return orjson.loads(mapped(batch_envelope(1, RECORD, [(UUIDS[0], sent)], **record)).event)


def test_a_record_gives_its_events_in_order():
    envelope = batch_envelope(1, RECORD, [(uuid, event()) for uuid in UUIDS])
    assert [rows.uuid for rows in map_record(envelope) if isinstance(rows, Rows)] == UUIDS


def test_an_excerpt_maps_to_equal_rows():
    envelope = batch_envelope(1, RECORD, [(uuid, event(distinct_id=uuid)) for uuid in UUIDS])
    for index, rows in enumerate(map_record(envelope)):
        alone = excerpt(envelope, index)
        assert (alone.uuid, alone.accepted_at) == (UUIDS[index], envelope.accepted_at)
        assert mapped(alone) == rows


def test_a_bad_event_harms_no_other():
    bad: list[dict[str, Any] | str] = ["[1]", '{"event":', event(properties=[1])]
    items = [(UUIDS[0], event()), *zip(UUIDS[1:], bad, strict=True)]
    first, *others = map_record(batch_envelope(1, RECORD, items))
    assert isinstance(first, Rows)
    assert [type(other) for other in others] == [Unmappable] * 3


def test_properties_keep_their_text_and_costs_are_exact():
    text = '{"$ai_total_cost_usd":0.12345678901234567890, "n":1.10}'
    rows = row(f'{{"event":"$ai_generation","distinct_id":"d","properties":{text}}}')
    assert rows["properties"] == text
    assert rows["total_cost_usd"] == "0.123456789012345679"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"distinct_id": 23}, "23"),
        ({"distinct_id": 23.4}, "23.4"),
        ({"distinct_id": ["a", "é"]}, '["a","é"]'),
        ({"distinct_id": None, "$distinct_id": "x"}, "x"),
        ({"distinct_id": None, "properties": {"distinct_id": "x"}}, "x"),
    ],
)
def test_any_value_is_an_identity(fields: dict[str, Any], expected: str):
    assert row(event(**fields))["distinct_id"] == expected


@pytest.mark.parametrize(
    ("fields", "sent_at", "expected"),
    [
        ({"timestamp": "2025-07-01T11:59:55Z"}, "2025-07-01T12:00:05Z", "2025-07-01T10:59:50"),
        ({"timestamp": "2025-07-01T11:59:55Z"}, None, "2025-07-01T11:59:55"),
        ({"timestamp": "2025-07-01T11:59:55Z"}, "nonsense", "2025-07-01T11:59:55"),
        (
            {"timestamp": "2025-07-01T11:59:55Z", "properties": {"$ignore_sent_at": True}},
            "2025-07-01T12:00:05Z",
            "2025-07-01T11:59:55",
        ),
        ({"offset": 5000}, "2025-07-01T12:00:05Z", "2025-07-01T10:59:55.123456"),
        ({"offset": 10**15}, None, "1970-01-01T00:00:00"),
        ({"offset": True}, None, "2025-07-01T11:00:00.123456"),
        ({}, "2025-07-01T12:00:05Z", "2025-07-01T11:00:00.123456"),
    ],
)
def test_the_clients_clock_is_corrected_from_the_record_alone(fields, sent_at, expected: str):
    assert row(event(**fields), sent_at=sent_at)["timestamp"].startswith(expected)


def test_what_a_person_is_set_to_is_a_property():
    sent = '{"event":"e","distinct_id":"d","$set":{"a":1.10},"$set_once":{"b":2}}'
    assert row(sent)["properties"] == '{"$set":{"a":1.10},"$set_once":{"b":2}}'
    kept = row(event(**{"$set": {"a": 1}}, properties={"$set": {"a": 2}}))
    assert orjson.loads(kept["properties"]) == {"$set": {"a": 2}}


def test_an_update_of_a_person_is_named():
    assert row({"$distinct_id": "d", "$set": {"a": 1}}, engage=True)["event"] == "$identify"


def test_what_v1_moved_is_back_among_the_properties():
    sent = event(
        session_id="s",
        window_id="w",
        options={"disable_skew_correction": "1", "process_person_profile": False, "other": 1},
        timestamp="2025-07-01T11:59:55Z",
        properties={"a": 1},
    )
    rows = row(sent, protocol="v1", sdk="posthog-python/7.91.1", sent_at="2025-07-01T12:00:05Z")
    assert orjson.loads(rows["properties"]) == {
        "a": 1,
        "$ignore_sent_at": True,
        "$process_person_profile": False,
        "$session_id": "s",
        "$window_id": "w",
        "$lib": "posthog-python",
        "$lib_version": "7.91.1",
    }
    assert rows["timestamp"].startswith("2025-07-01T11:59:55")


def test_the_address_of_an_internal_event_is_not_kept():
    record = PostHogRecord(
        events=(PostHogEvent(UUIDS[0], orjson.dumps(event()), internal=True),),
        protocol="v0",
        sent_at=None,
        ip="192.0.2.1",
        retention_days=30,
    )
    envelope = replace(batch_envelope(1, RECORD, []), payload=record.encode())
    assert orjson.loads(mapped(envelope).event)["ip"] == "127.0.0.1"
    assert row(event())["ip"] == "192.0.2.1"


def test_a_record_is_decoded_as_it_was_encoded_and_nothing_else_is_one():
    envelope = batch_envelope(1, RECORD, [(uuid, event()) for uuid in UUIDS], historical=True)
    record = posthog_record.decode(envelope.payload)
    assert record.encode() == envelope.payload
    assert record.only(1).events == record.events[1:2]
    line, _, texts = envelope.payload.partition(b"\n")
    for broken in (
        b"",
        line,
        envelope.payload[:-1],
        envelope.payload + b"x",
        line.replace(b'"events"', b'"evnets"') + b"\n" + texts,
        line.replace(b'"ip"', b'"pi"') + b"\n" + texts,
        line.replace(UUIDS[0].encode(), b"").replace(b'""', b"7") + b"\n" + texts,
        b'{"events":[["a",-1,false]]}\n',
    ):
        with pytest.raises(RecordBroken):
            posthog_record.decode(broken)
