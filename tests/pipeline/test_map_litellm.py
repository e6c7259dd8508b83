"""From a record of LiteLLM's door to rows."""

import json
from typing import Any

import orjson
import pytest

from nilometer.domain.ai_record import RecordBroken
from nilometer.domain.litellm_record import LiteLLMItem, LiteLLMRecord, NotAPayload, decode
from nilometer.log.envelope import Envelope
from nilometer.pipeline.mapping import Rows, Unmappable, excerpt, map_record
from tests.pipeline.records import ACCEPTED_AT, RETENTION_DAYS, mapped

RECORD = "01980000-0000-7000-8000-000000000000"
CALL = "b0b1b2b3-0000-4000-8000-000000000001"
USAGE = {
    "prompt_tokens": 7100,
    "completion_tokens": 50,
    "total_tokens": 7150,
    "cache_read_input_tokens": 5000,
    "cache_creation_input_tokens": 2000,
    "prompt_tokens_details": {
        "cached_tokens": 5000,
        "cache_creation_token_details": {
            "ephemeral_5m_input_tokens": 1500,
            "ephemeral_1h_input_tokens": 500,
        },
    },
}


def payload(**fields: Any) -> dict[str, Any]:
    known = {
        "id": "msg_01234567890123456789",
        "litellm_call_id": CALL,
        "call_type": "acompletion",
        "status": "success",
        "custom_llm_provider": "anthropic",
        "model": "claude-sonnet-4-5",
        "prompt_tokens": 7100,
        "completion_tokens": 50,
        "total_tokens": 7150,
        "response_cost": 0.011175,
        "startTime": 1751367600.25,
        "endTime": 1751367601.5,
        "end_user": "someone",
        "metadata": {"usage_object": USAGE},
    }
    return known | fields


def record_of(*items: dict[str, Any] | LiteLLMItem) -> Envelope:
    written = tuple(
        item if isinstance(item, LiteLLMItem) else LiteLLMItem(orjson.dumps(item)) for item in items
    )
    record = LiteLLMRecord(items=written, ip="192.0.2.1", retention_days=RETENTION_DAYS)
    return Envelope(1, RECORD, "litellm", 1, ACCEPTED_AT, 1, record.encode())


def event_row(**fields: Any) -> dict[str, Any]:
    return orjson.loads(mapped(record_of(payload(**fields))).event)


def call_row(**fields: Any) -> dict[str, Any]:
    call = mapped(record_of(payload(**fields))).call
    assert call is not None
    return orjson.loads(call)


def test_a_payload_is_an_event_that_keeps_what_it_was_made_from():
    row = event_row()
    assert (row["event"], row["distinct_id"]) == ("$ai_generation", "someone")
    assert row["timestamp"] == "2025-07-01T11:00:00.250000Z"
    assert (row["door"], row["converter"]) == ("litellm", "litellm/1")
    assert json.loads(row["source"]) == payload()
    assert json.loads(row["properties"])["litellm_call_id"] == CALL
    assert row["ip"] == "192.0.2.1"


def test_cached_tokens_are_counted_once_and_priced_apart():
    call = call_row()
    names = ("uncached_input", "cache_read", "cache_write_5m", "cache_write_1h", "input", "output")
    assert [call[f"vector_{name}"] for name in names] == [100, 5000, 1500, 500, 7100, 50]
    # $3, $0.30, $3.75 and $6 a million tokens of input, $15 of output.
    exact = 100 * 3 + 5000 * 0.3 + 1500 * 3.75 + 500 * 6 + 50 * 15
    assert float(call["cost_total"]) == exact / 1_000_000
    assert call["reported_total_cost_usd"] == "0.011175"


def test_a_call_is_the_response_or_else_litellms_call():
    assert (call_row()["identity"], call_row()["call_id"]) == (
        "response",
        "msg_01234567890123456789",
    )
    failed = call_row(status="failure", id=CALL, error_information={"error_code": "429"})
    assert (failed["identity"], failed["call_id"]) == ("litellm", CALL)
    assert failed["is_error"] is True
    assert failed["http_status"] == 429


def test_an_answer_from_a_cache_is_an_event_and_no_call():
    rows = mapped(record_of(payload(cache_hit=True)))
    assert (rows.call, rows.call_id) == (None, "")
    assert json.loads(orjson.loads(rows.event)["properties"])["$ai_cache_hit"] is True


def test_a_bad_item_harms_no_other_and_its_excerpt_maps_alike():
    noted = LiteLLMItem(b'{"fault":"the line is not valid JSON"}', "not_json")
    envelope = record_of(payload(), noted, payload(litellm_call_id="another"))
    outcomes = list(map_record(envelope))
    assert [type(each) for each in outcomes] == [Rows, Unmappable, Rows]
    uuids: set[str] = set()
    for index, outcome in enumerate(outcomes):
        alone = excerpt(envelope, index)
        uuids.add(alone.uuid)
        assert excerpt(alone, 0) == alone
        if isinstance(outcome, Rows):
            assert mapped(alone) == outcome
            assert alone.uuid == outcome.uuid
        else:
            with pytest.raises(NotAPayload):
                mapped(alone)
    assert len(uuids) == 3


def test_the_same_payload_in_another_batch_is_the_same_event():
    first, again = payload(), payload()
    other = payload(litellm_call_id="another")
    assert [rows.uuid for rows in map_record(record_of(other, again)) if isinstance(rows, Rows)][
        1
    ] == mapped(record_of(first)).uuid


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"{}",
        b"[]\n",
        b'{"ip":"","retention_days":1,"items":[[2,""]]}',
        b'{"ip":"","retention_days":1,"items":[[2,""]]}\n{}x',
        b'{"ip":"","retention_days":1,"items":[[-1,""]]}\n',
        b'{"ip":7,"retention_days":1,"items":[]}\n',
        b'{"ip":"","retention_days":1,"items":[[2,7]]}\n{}',
    ],
)
def test_another_layout_is_a_broken_record(broken: bytes):
    with pytest.raises(RecordBroken):
        decode(broken)
