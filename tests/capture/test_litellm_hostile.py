"""Whatever a body of LiteLLM's door is: a refusal, or a record that each of its items maps from."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from nilometer.capture.litellm_payloads import PayloadRules, read_payloads
from nilometer.capture.refusals import Refusal
from nilometer.domain import litellm_record
from nilometer.domain.litellm_record import LiteLLMRecord, NotAPayload
from nilometer.log.envelope import Envelope
from nilometer.pipeline.mapping import Rows, Unmappable, excerpt, map_record
from tests.pipeline.records import mapped

RULES = PayloadRules(max_payload=2000, max_payloads=5)
RECORD = "01980000-0000-7000-8000-000000000000"
FIELDS = (
    *("id", "litellm_call_id", "call_type", "status", "model", "startTime", "endTime", "metadata"),
    *("messages", "response", "cost_breakdown", "usage_object", "end_user", "trace_id", "stream"),
    *("user_api_key_hash", "request_tags", "error_information", "cache_hit", "response_cost"),
)
numbers = st.integers() | st.floats() | st.just(10**30)
scalars = st.none() | st.booleans() | numbers | st.text(max_size=8) | st.just("\ud83d")
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)
payloads = st.dictionaries(st.sampled_from(FIELDS), values, max_size=8)
bodies = st.one_of(
    st.binary(max_size=64),
    st.text(alphabet='[]{}",:\\ \nu1eNI', max_size=40).map(str.encode),
    st.lists(payloads | values, max_size=6).map(lambda found: json.dumps(found).encode()),
    st.lists(payloads | values, max_size=6).map(
        lambda found: "\n".join(map(json.dumps, found)).encode()
    ),
)


@given(bodies)
def test_a_body_is_refused_or_every_item_is_an_event_or_a_dead_letter(body: bytes):
    try:
        read = read_payloads(body, RULES)
    except Refusal:
        return
    record = LiteLLMRecord(items=read.items, ip="192.0.2.1", retention_days=30)
    assert litellm_record.decode(record.encode()) == record
    envelope = Envelope(1, RECORD, "litellm", 1, 1_751_367_600_000_000, 1, record.encode())
    outcomes: list[Any] = list(map_record(envelope))
    assert len(outcomes) == len(read.items)
    for place, outcome in enumerate(outcomes):
        assert isinstance(outcome, Unmappable) == (place in read.faults), outcome
        alone = excerpt(envelope, place)
        if isinstance(outcome, Rows):
            assert mapped(alone) == outcome
        else:
            with contextlib.suppress(NotAPayload):
                mapped(alone)
                raise AssertionError("a bad item mapped")


@given(payloads, st.sampled_from(["user_api_key_hash", "user_api_key_auth", "cache_key"]))
def test_no_key_of_a_payload_passes(payload: dict[str, Any], name: str):
    told = payload | {"id": "a", name: "swordfish", "metadata": {name: "swordfish"}}
    body = json.dumps([told, {"no id": 1, name: "swordfish"}]).encode()
    read = read_payloads(body, PayloadRules(max_payload=1_000_000, max_payloads=2))
    assert all(b"swordfish" not in item.text for item in read.items)
