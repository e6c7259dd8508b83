"""A record becomes rows by what it holds, exactly, and by nothing else."""

from dataclasses import replace

import orjson
import pytest

from nilometer.clickhouse.store import Store
from nilometer.domain.ai_record import AiRecord, BlobReference, RecordBroken
from nilometer.log.envelope import Envelope
from tests.pipeline.records import ACCEPTED_AT, envelope, mapped

UUID = "123e4567-e89b-12d3-a456-426614174000"


def event_row(one: Envelope) -> dict[str, object]:
    return orjson.loads(mapped(one).event)


def test_the_row_says_who_when_and_what():
    row = event_row(
        envelope(7, UUID, properties={"$ai_model": "m", "$ai_trace_id": 12, "$ai_latency": 1.5})
    )
    assert (row["project_id"], row["uuid"], row["event"]) == (7, UUID, "$ai_generation")
    assert (row["distinct_id"], row["ip"], row["door"]) == ("someone", "127.0.0.1", "ai")
    assert (row["model"], row["trace_id"], row["latency"]) == ("m", "12", 1.5)
    assert row["accepted_at"] == row["timestamp"] == "2025-07-01T11:00:00.123456Z"
    assert row["expires_at"] == "2025-08-01T00:00:00Z"
    assert row["is_error"] is False
    assert row["mapping_version"] == 5
    assert "error" not in row


@pytest.mark.parametrize(
    ("event", "properties", "expected"),
    [
        ({"timestamp": "2025-07-01T09:00:00Z"}, {}, "2025-07-01T09:00:00.000000Z"),
        (
            {"timestamp": "2025-07-01T11:59:55Z", "sent_at": "2025-07-01T12:00:05Z"},
            {},
            "2025-07-01T10:59:50.123456Z",
        ),
        (
            {"timestamp": "2025-07-01T11:59:55Z", "sent_at": "2025-07-01T12:00:05Z"},
            {"$ignore_sent_at": True},
            "2025-07-01T11:59:55.000000Z",
        ),
        ({"timestamp": "nonsense"}, {}, "2025-07-01T11:00:00.123456Z"),
    ],
)
def test_the_clients_clock_is_corrected_from_the_record_alone(event, properties, expected):
    row = event_row(envelope(1, UUID, event=event, properties={"$ai_model": "m"} | properties))
    parsed = str(row["timestamp"])
    assert (parsed if "." in parsed else parsed.replace("Z", ".000000Z")) == expected


def test_properties_keep_the_text_that_was_sent():
    text = '{ "$ai_model" : "m", "price": 1.10, "big": 123456789012345678901234567890, "e": 1E2 }'
    assert event_row(envelope(1, UUID, properties=text))["properties"] == text


def test_properties_inside_the_event_part_are_the_same_as_beside_it():
    properties = '{"$ai_model":"m","n":1.10,"$ai_input_cost_usd":0.00000012345678901234}'
    event = f'{{"event":"$ai_embedding","distinct_id":"d","uuid":"x","properties":{properties}}}'
    inside = AiRecord(event.encode(), None, (), "::1", 30)
    beside = AiRecord(
        b'{"event":"$ai_embedding","distinct_id":"d","uuid":"x"}',
        properties.encode(),
        (),
        "::1",
        30,
    )
    one, other = (
        mapped(replace(envelope(1, UUID), payload=record.encode())) for record in (inside, beside)
    )
    assert one == other


@pytest.mark.parametrize("inside", [True, False])
def test_a_cost_that_a_double_cannot_hold_is_exact(inside: bool):
    cost = "0.123456789012345678"
    assert repr(float(cost)) != cost
    properties = f'{{"$ai_model":"m","$ai_total_cost_usd":{cost}}}'
    one = envelope(1, UUID, properties=properties)
    if inside:
        head = f'{{"event":"$ai_generation","distinct_id":"d","properties":{properties}}}'
        record = AiRecord(head.encode(), None, (), "::1", 30)
        one = replace(one, payload=record.encode())
    rows = mapped(one)
    assert orjson.loads(rows.event)["total_cost_usd"] == cost
    assert rows.call is not None
    assert orjson.loads(rows.call)["reported_total_cost_usd"] == cost


@pytest.mark.parametrize(
    ("number", "tokens", "cost"),
    [
        ("1e999", None, None),
        ("9" * 400, None, None),
        (str(2**63), None, None),
        ("-0", 0, 0),
        ("1e-400", 0, 0),
        ("0.1e1", 1, 1),
    ],
)
def test_every_number_that_the_door_accepts_can_be_stored(
    store: Store, project_id: int, number: str, tokens: int | None, cost: int | None
):
    names = ("$ai_input_tokens", "$ai_latency", "$ai_total_cost_usd", "$ai_http_status", "other")
    members = ",".join(f'"{name}":{number}' for name in names)
    text = f'{{"$ai_model":"m",{members}}}'
    store.insert_lines("events", [mapped(envelope(project_id, UUID, properties=text)).event])
    sql = (
        "SELECT properties, input_tokens, total_cost_usd FROM events "
        "WHERE project_id = {project:Int64}"
    )
    assert store.query(sql, {"project": project_id}).rows == [(text, tokens, cost)]


def test_no_column_is_made_of_a_blobs_url():
    names = ("$ai_trace_id", "$ai_input_tokens", "$ai_error", "$ai_response_id", "litellm_call_id")
    url = "file://nilometer/llma/1/x.multipart?range=0-9"
    blobs = [BlobReference(name, url, "text/plain", None, 5, 5, False) for name in names]
    rows = mapped(envelope(1, UUID, properties={"$ai_model": "m"}, blobs=blobs))
    row, call = orjson.loads(rows.event), orjson.loads(rows.call or b"")
    assert set(orjson.loads(row["properties"])) == {"$ai_model", *names}
    assert not {"trace_id", "input_tokens", "error"} & set(row)
    assert (call["identity"], call["call_id"]) == ("event", UUID)


def test_a_blob_is_its_url_under_its_name():
    blob = BlobReference(
        "$ai_input",
        "file://nilometer/llma/1/x.multipart?range=0-9",
        "text/plain",
        None,
        5,
        5,
        False,
    )
    row = event_row(envelope(1, UUID, blobs=[blob]))
    assert orjson.loads(str(row["properties"]))["$ai_input"] == blob.url
    assert orjson.loads(str(row["blobs"])) == [
        {
            "name": "$ai_input",
            "url": blob.url,
            "content_type": "text/plain",
            "content_encoding": None,
            "size": 5,
            "stored_size": 5,
            "compressed_here": False,
        }
    ]


@pytest.mark.parametrize(
    ("name", "operation"),
    [
        ("$ai_generation", "generation"),
        ("$ai_embedding", "embedding"),
        ("$ai_span", None),
        ("$ai_trace", None),
        ("$ai_metric", None),
        ("$ai_feedback", None),
    ],
)
def test_generations_and_embeddings_are_calls(name: str, operation: str | None):
    properties = {"$ai_model": "m", "$ai_trace_id": "t", "$ai_span_id": "s", "$ai_input_tokens": 5}
    call = mapped(envelope(1, UUID, name=name, properties=properties)).call
    if operation is None:
        assert call is None
        return
    assert call is not None
    row = orjson.loads(call)
    assert (row["operation"], row["identity"], row["call_id"]) == (operation, "span", "t/s")
    assert (row["event_uuid"], row["revision"], row["input_tokens"]) == (UUID, 1, 5)


@pytest.mark.parametrize(
    "header",
    [
        {"project_id": 0},
        {"project_id": 2**63},
        {"accepted_at": -1},
        {"accepted_at": 10**17},
        {"uuid": UUID.upper()},
    ],
)
def test_headers_that_the_store_cannot_hold_are_a_broken_record(header: dict[str, object]):
    with pytest.raises(RecordBroken):
        mapped(replace(envelope(1, UUID), **header))


def test_a_uuid_that_is_none_is_refused_before_a_look_up_fails_on_it():
    with pytest.raises(ValueError, match="not a UUID"):
        mapped(replace(envelope(1, UUID), uuid="no uuid"))


def test_earlier_acceptance_is_the_greater_version():
    early = event_row(envelope(1, UUID, accepted_at=ACCEPTED_AT))
    late = event_row(envelope(1, UUID, accepted_at=ACCEPTED_AT + 1))
    assert early["first_wins"] == late["first_wins"] + 1
