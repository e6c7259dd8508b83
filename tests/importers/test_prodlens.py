import json

import pytest

from nilometer.importers.trace_call import Reason
from tests.importers.records import NOW, call_of, reason_of

USAGE = {"input_tokens": 5, "output_tokens": 3}
LEGACY = "user_0a_account_b1_session_c2-d3"
CURRENT = json.dumps({"device_id": "0a", "account_uuid": "b1", "session_id": "c2-d3"})


def record(**members):
    return {"timestamp": 1_760_000_000, "usage": USAGE, **members}


def test_metadata_is_looked_for_in_three_places_in_order():
    here, flat, nested = ({"dev_id": name} for name in ("here", "flat", "nested"))
    inside = {"attributes": {"metadata": nested}}
    assert call_of(record(metadata=here, **{"attributes.metadata": flat})).developer == "here"
    assert call_of(record(**{"attributes.metadata": flat}, **inside)).developer == "flat"
    assert call_of(record(**inside)).developer == "nested"
    assert call_of(record(metadata=json.dumps(here))).developer == "here"
    assert call_of(record(metadata="run of session_77")).session == "77"


@pytest.mark.parametrize(
    ("metadata", "session"),
    [
        ({"session_id": "s1", "user_id": "u1"}, "s1"),
        ({"session_id": "session_s1"}, "s1"),
        ({"session_id": "plain", "developer_session": "session-s2"}, "s2"),
        ({"user_api_key_end_user_id": "e1"}, "e1"),
        ({"requester_metadata": {"user_id": LEGACY}}, "c2-d3"),
        ({"user_id": CURRENT}, "c2-d3"),
        ({"user_id": '{"device_id": "0a"}'}, None),
        ({}, None),
    ],
)
def test_a_session_is_what_follows_its_name_and_never_the_name_itself(metadata, session):
    assert call_of(record(metadata=metadata)).session == session


@pytest.mark.parametrize(
    ("metadata", "developer"),
    [
        ({"user": "c", "dev_id": "b", "developer_id": "a"}, "a"),
        ({"user": "c", "dev_id": "b"}, "b"),
        ({"user_id": "d", "user": "c"}, "c"),
        ({"user_id": "d"}, "d"),
        ({"user_id": "my_session_1", "requester_metadata": {"user": "e"}}, "e"),
        ({"user_id": CURRENT}, "b1"),
        ({"user_id": "my_session_1"}, None),
    ],
)
def test_a_developer_is_told_or_nobody(metadata, developer):
    assert call_of(record(metadata=metadata)).developer == developer


def test_attributes_are_looked_for_in_order_and_then_the_record():
    names = ("llm.model_name", "model", "llm.model", "model_name")
    for place, name in enumerate(names):
        told = {each: each for each in names[place:]}
        assert call_of(record(attributes=told)).model == name
    assert call_of(record(model="gpt-4o")).model == "gpt-4o"
    latency = {"response.latency_ms": 2, "request.latency_ms": 1}
    assert call_of(record(attributes=latency, latency_ms=9)).latency_ms == 1
    assert call_of(record(latency_ms=9)).latency_ms == 9
    assert call_of(record(attributes={"http.status_code": 500})).failed is True


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"input_tokens": 5, "output_tokens": 3}, (5, 3)),
        ({"input_tokens": 5, "total_tokens": 8}, (5, 3)),
        ({"output_tokens": 3, "total_tokens": 8}, (5, 3)),
        ({"total_tokens": 8}, (8, 0)),
        ({"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}, (5, 3)),
        ({"input_tokens": 5, "cache_read_input_tokens": 90, "output_tokens": 3}, (95, 3)),
        ({"input_tokens": 5.0, "output_tokens": 3}, (5, 3)),
    ],
)
def test_tokens_are_told_or_derived(usage, tokens):
    call = call_of(record(usage=usage))
    assert (call.tokens_in, call.tokens_out) == tokens


@pytest.mark.parametrize(
    ("usage", "reason"),
    [
        ({}, "not_reported"),
        ({"input_tokens": -5, "output_tokens": 3}, "negative_count"),
        ({"input_tokens": 9, "total_tokens": 8}, "negative_count"),
        ({"input_tokens": "many", "output_tokens": 3}, "invalid_count:input_tokens"),
        ({"input_tokens": 1e300, "output_tokens": 3}, "invalid_count:input_tokens"),
        ({"input_tokens": 2**63 - 1, "output_tokens": 1}, "too_large"),
    ],
)
def test_tokens_that_cannot_be_true_are_unknown_and_not_zero(usage, reason):
    call = call_of(record(usage=usage))
    assert (call.tokens, call.usage_reason) == (None, reason)


def test_acceptance_has_three_states():
    def accepted(**told):
        return call_of(record(attributes=told)).accepted

    assert accepted() is None
    assert accepted(accepted=False) is False
    assert accepted(accepted_flag=1) is True
    assert accepted(**{"prod_lens.accepted": "true", "accepted": False}) is True
    assert accepted(accepted="perhaps") is None


@pytest.mark.parametrize(
    ("told", "micros"),
    [
        ("2025-10-09T08:53:20Z", NOW),
        ("2025-10-09T10:53:20+02:00", NOW),
        ("2025-10-09T08:53:20+00:00Z", NOW),
        ("2025-10-09T08:53:20", NOW),
        (1_760_000_000.25, NOW + 250_000),
    ],
)
def test_times_come_in_many_spellings(told, micros):
    assert call_of(record(timestamp=told)).started_at == micros


def test_a_null_time_is_the_time_of_reading_and_says_so():
    call = call_of({"timestamp": None, "usage": USAGE})
    assert (call.started_at, call.is_time_assumed) == (NOW, True)
    assert call_of({"start_time": 5, "usage": USAGE}).started_at == 5_000_000


def test_what_a_person_says_of_the_files_stands_where_the_record_says_nothing():
    said = {"repository": "acme/app", "developer": "ada"}
    assert call_of(record(), **said).developer == "ada"
    assert call_of(record(), **said).repository == "acme/app"
    assert call_of(record(metadata={"repo": "o/n"}), **said).repository == "o/n"


@pytest.mark.parametrize("slug", ["../x", "/etc", "a//b", ".git/hooks", "a/b\x00c", "con/x", "%2e"])
def test_a_repository_that_leads_elsewhere_is_refused(slug):
    assert reason_of(record(metadata={"repo": slug})) is Reason.BAD_REPOSITORY


def test_the_same_record_has_the_same_key_however_it_is_laid_out():
    one, other = record(model="m"), {"model": "m", **record()}
    assert call_of(one).key == call_of(json.dumps(other, indent=2).encode()).key
    assert call_of(one).key != call_of(record(model="n")).key
