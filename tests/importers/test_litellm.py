import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.trace_records import litellm as payload_of
from nilometer.conventions import litellm, usage
from nilometer.conventions.litellm_secrets import scrubbed
from nilometer.importers.trace_call import Reason
from tests.importers.records import call_of, parsed, reason_of

CACHED = {
    "prompt_tokens": 7100,
    "completion_tokens": 50,
    "total_tokens": 7150,
    "prompt_tokens_details": {
        "cached_tokens": 5000,
        "cache_creation_tokens": 2000,
        "cache_creation_token_details": {
            "ephemeral_5m_input_tokens": 1500,
            "ephemeral_1h_input_tokens": 500,
        },
    },
    "cache_creation_input_tokens": 2000,
    "cache_read_input_tokens": 5000,
}


def payload(**members):
    made = payload_of(random.Random(7), 1)
    made["end_user"] = ""
    return {**made, "litellm_call_id": "call-1", "id": "chatcmpl-9", **members}


def with_metadata(**members):
    made = payload()
    return {**made, "metadata": {**made["metadata"], **members}}


def test_a_payload_is_the_call_that_the_doors_make_of_it():
    made = payload(metadata={"usage_object": CACHED, "user_api_key_user_id": "ada"})
    call, event = call_of(made), litellm.convert(scrubbed(made)).properties
    read = usage.read(event, convention="litellm").vector
    assert read is not None
    assert call.tokens == read.counts == (100, 5000, 1500, 500, 0, 0, 0, 0, 50, 0, 0, 0)
    assert call.reported_cost == event["$ai_total_cost_usd"]
    assert call.latency_ms == pytest.approx(event["$ai_latency"] * 1000, abs=0.01)
    assert (call.provider, call.resolved_model) == (event["$ai_provider"], event["$ai_model"])
    assert call.session is None
    assert call.developer == "ada"


def test_a_spend_log_is_the_same_call_as_its_payload():
    made = payload()
    row = {
        "request_id": made["id"],
        "litellm_call_id": "call-1",
        "call_type": "acompletion",
        "spend": made["response_cost"],
        "model": made["model"],
        "startTime": "2026-10-01T08:00:00.731",
        "endTime": "2026-10-01T08:00:02.731Z",
        "metadata": json.dumps(made["metadata"]),
        "request_tags": json.dumps(["repo:acme/shop"]),
        "cache_hit": "False",
        "prompt_tokens": made["prompt_tokens"],
        "completion_tokens": made["completion_tokens"],
        "total_tokens": made["total_tokens"],
        "status": "success",
    }
    one, other = call_of(made), call_of(row)
    assert (one.source, one.key) == (other.source, other.key) == ("litellm", "call-1")
    assert one.tokens == other.tokens
    assert one.started_at == other.started_at
    assert (other.repository, other.latency_ms) == ("acme/shop", 2000.0)
    assert other.reported_cost == one.reported_cost


def test_attempts_at_a_call_that_failed_are_told_apart():
    failed = {"status": "failure", "error_information": {"error_code": "429", "error_class": "R"}}
    first, second = (call_of(payload(**failed, startTime=at)) for at in (10.0, 11.0))
    good = call_of(payload())
    assert len({first.key, second.key, good.key}) == 3
    assert (first.failed, first.status_code, first.error_type) == (True, 429, "R")
    assert good.failed is False
    assert call_of({**payload(), "status": None}).failed is None


@pytest.mark.parametrize(
    ("members", "session"),
    [
        ({"session_id": "told"}, "told"),
        ({"end_user": json.dumps({"session_id": "inside", "account_uuid": "a"})}, "inside"),
        ({"end_user": "user_1_account_2_session_3"}, "3"),
        ({"trace_id": "nightly-run-7"}, "nightly-run-7"),
        ({}, None),
    ],
)
def test_a_session_is_told_by_field_user_id_or_a_trace_that_somebody_named(members, session):
    assert call_of(payload(**members)).session == session


def test_a_session_is_told_by_a_header_or_the_callers_metadata():
    headers = {"headers": {"X-Claude-Code-Session-Id": "from-header"}}
    assert call_of(with_metadata(requester_metadata=headers)).session == "from-header"
    assert call_of(with_metadata(requester_metadata={"session_id": "m"})).session == "m"


def test_a_repository_is_told_by_exactly_one_tag():
    one = ["repo:acme/shop", "branch:fix", "User-Agent: claude-cli"]
    call = call_of(payload(request_tags=one))
    assert (call.repository, call.branch) == ("acme/shop", "fix")
    assert call.tags == ("repo:acme/shop", "branch:fix")
    assert call_of(payload(request_tags=["repo:a/b", "repo:a/c"])).repository is None
    assert call_of(payload(request_tags=["repo:../../x"])).repository is None


def test_an_answer_from_the_cache_consumed_nothing():
    call = call_of(payload(cache_hit=True))
    assert call.counts_usage is False
    assert call.response_id is None


def test_a_cost_that_litellm_does_not_know_is_not_reported_as_zero():
    unknown = payload(response_cost=0, zero_cost_diagnostic={"reason": "missing"})
    assert call_of(unknown).reported_cost is None
    assert call_of(payload(response_cost=0)).reported_cost == "0"


def test_tools_of_the_answer_are_named():
    calls = [{"function": {"name": name}} for name in ("find", "read", "find")]
    response = {"choices": [{"message": {"tool_calls": calls}}]}
    assert call_of(payload(response=response)).tools == ("find", "read")


def test_a_step_that_asks_no_model_is_passed():
    tally = parsed(payload(call_type="list_mcp_tools")).tally
    assert (tally.records, tally.calls, tally.passed) == (1, 0, 1)


def test_a_payload_without_times_is_rejected():
    assert reason_of(payload(startTime=None, endTime=None)) is Reason.NO_TIME
    assert reason_of(payload(startTime="soon")) is Reason.BAD_TIME


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(sorted(payload())), _JSON, max_size=4))
def test_whatever_stands_in_a_member_no_payload_ends_the_reading(members):
    found = parsed(payload(**members))
    assert all(each.reason is not Reason.UNREADABLE for each in found.rejected)
    assert found.tally.records == 1
