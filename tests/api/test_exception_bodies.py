"""What may be raised: read precisely, and refused with what is wrong and where."""

import json
from contextlib import suppress
from datetime import UTC, datetime

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nilometer.api import exception_bodies
from nilometer.api.exception_bodies import MAX_EXCEPTION_BYTES, MAX_EXCEPTIONS, idempotency_key
from nilometer.errors import InvalidInput
from nilometer.incidents import accept
from nilometer.incidents.incident import NewException

LEAST = {"exception_type": "Failed", "source_system": "billing"}


def read(body):
    return exception_bodies.read(body if isinstance(body, bytes) else json.dumps(body).encode())


def one(**fields):
    (found,) = read({**LEAST, **fields}).exceptions
    return found


def refused(body):
    with pytest.raises(InvalidInput) as error:
        read(body)
    return error.value


def test_the_least_that_can_be_raised():
    raised = read(LEAST)
    assert not raised.many
    assert raised.exceptions == (NewException("Failed", "billing"),)


def test_every_member_is_taken_in_snake_case_and_in_camel_case():
    expected = NewException(
        "Failed",
        "billing",
        severity="high",
        occurred_at=datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
        payload={"order": {"id": 7}},
        domain="finance",
    )
    members = {
        "exceptionType": "Failed",
        "sourceSystem": "billing",
        "severity": "HIGH",
        "occurredAt": "2026-01-02T05:04:05.678901+02:00",
        "payload": {"order": {"id": 7}},
        "domain": "finance",
    }
    assert read(members).exceptions == (expected,)
    snake = {"exception_type": "Failed", "source_system": "billing", "severity": "high"}
    snake |= {"occurred_at": "2026-01-02T03:04:05.678901Z"}
    snake |= {"payload": {"order": {"id": 7}}, "domain": "finance"}
    assert read(snake).exceptions == (expected,)


def test_the_contracts_wrapper_is_taken():
    wrapped = {"exception": {"exceptionType": "Failed"}, "source_system": "billing"}
    raised = read({**wrapped, "ingestion_method": "api"})
    assert (raised.exceptions, raised.many) == ((NewException("Failed", "billing"),), False)


def test_every_item_of_a_list_is_handled_and_a_bad_one_is_named():
    items = [LEAST, {"exception_type": "x"}, 5, {**LEAST, "severity": "worst"}, LEAST]
    raised = read({"exceptions": items})
    assert raised.many
    assert [type(each) for each in raised.exceptions] == [
        *(NewException, InvalidInput, InvalidInput, InvalidInput, NewException)
    ]
    assert [getattr(each, "attr", "") for each in raised.exceptions] == [
        *("", "source_system", None, "severity", "")
    ]
    assert raised.accepted == [NewException("Failed", "billing")] * 2


NAMES = st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=201)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys((*LEAST, "severity", "domain"), NAMES)))
@example({**LEAST, "exception_type": "a\u200bb"})
@example({**LEAST, "domain": "a\u2028b"})
def test_whatever_an_item_is_it_keeps_no_other_back(item):
    raised = read({"exceptions": [LEAST, item, LEAST]})
    assert len(raised.accepted) >= 2
    for each in raised.accepted:
        accept.check(each)


def test_what_cannot_be_printed_is_named():
    assert "U+200B" in refused({**LEAST, "source_system": "a\u200bb"}).detail


def test_a_source_beside_the_list_is_of_the_items_that_name_none():
    items = [{"exception_type": "a"}, LEAST]
    raised = read({"exceptions": items, "sourceSystem": "erp"})
    assert [each.source_system for each in raised.accepted] == ["erp", "billing"]


@pytest.mark.parametrize(
    ("fields", "attr"),
    [
        ({"exception_type": None}, "exception_type"),
        ({"exception_type": ""}, "exception_type"),
        ({"exception_type": " "}, "exception_type"),
        ({"exception_type": 5}, "exception_type"),
        ({"exception_type": "a\nb"}, "exception_type"),
        ({"source_system": "x" * 201}, "source_system"),
        ({"source_system": []}, "source_system"),
        ({"domain": ""}, "domain"),
        ({"severity": "worst"}, "severity"),
        ({"severity": 3}, "severity"),
        ({"severity": True}, "severity"),
        ({"occurred_at": 5}, "occurred_at"),
        ({"occurred_at": "yesterday"}, "occurred_at"),
        ({"occurred_at": "2026-01-01T00:00:00"}, "occurred_at"),
        ({"payload": []}, "payload"),
        ({"payload": "text"}, "payload"),
        ({"payload": None}, "payload"),
        ({"payload": {"a": [0, {"b": "\0"}]}}, "payload.a.1.b"),
        ({"payload": {"a": {"\0": 1}}}, "payload.a"),
        ({"payload": {"a": 2**64}}, "payload.a"),
        ({"payload": {"a": -(2**63) - 1}}, "payload.a"),
        ({"payload": {"a": "x" * MAX_EXCEPTION_BYTES}}, "payload"),
        ({"exceptionType": "again"}, "exception_type"),
    ],
)
def test_a_member_that_cannot_be_is_named(fields, attr):
    assert refused({**LEAST, **fields}).attr == attr


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "parse_error"),
        (b"\xff", "parse_error"),
        (b"[]", "parse_error"),
        (b'"x"', "parse_error"),
        (b'{"a": NaN}', "parse_error"),
        (b'{"payload": {}, "payload": {}}', "parse_error"),
        (b"[" * 200, "parse_error"),
        (b'{"exception_type": "\\ud800"}', "parse_error"),
        (orjson.dumps({**LEAST, "exceptiontype": 1}), "extra"),
        (orjson.dumps({**LEAST, "tenant_id": 1}), "extra"),
        (orjson.dumps({"exceptions": [LEAST], "exception": LEAST}), "extra"),
        (orjson.dumps({"exceptions": [LEAST], "payload": {}}), "extra"),
        (orjson.dumps({"exceptions": []}), "invalid_input"),
        (orjson.dumps({"exceptions": {}}), "invalid_input"),
        (orjson.dumps({"exceptions": [LEAST] * (MAX_EXCEPTIONS + 1)}), "too_many"),
        (orjson.dumps({"exception": 5}), "invalid_input"),
    ],
)
def test_a_body_that_cannot_be_is_refused_whole(body, code):
    assert refused(body).code == code


def test_a_number_that_no_float_holds_is_refused_with_its_place():
    body = json.dumps({**LEAST, "payload": {}}).replace("{}", '{"a": [1, 1e999]}').encode()
    assert refused(body).attr == "payload.a.1"


def test_the_most_that_one_request_may_hold_is_taken():
    assert len(read({"exceptions": [LEAST] * MAX_EXCEPTIONS}).accepted) == MAX_EXCEPTIONS
    room = MAX_EXCEPTION_BYTES - len('{"a":""}')
    assert len(one(payload={"a": "x" * room}).payload["a"]) == room


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("abc_A. "), inner),
    max_leaves=8,
)


@settings(max_examples=30)
@given(st.dictionaries(st.text("abc_A. "), values, max_size=4))
def test_a_payload_comes_out_as_it_went_in(payload):
    found = one(payload=payload)
    assert found.payload == payload
    assert orjson.loads(orjson.dumps(found.payload)) == payload


@given(st.binary(max_size=64) | values.map(orjson.dumps))
def test_nothing_that_is_sent_breaks_the_reader(body):
    with suppress(InvalidInput):
        assert exception_bodies.read(body).exceptions


@pytest.mark.parametrize("key", ["a", "k" * 255, "order 7/2026-01-01"])
def test_an_idempotency_key_is_printable_text(key):
    assert idempotency_key([key]) == key


@pytest.mark.parametrize("values", [[""], [" "], ["k" * 256], ["é"], ["a\tb"], ["a", "b"]])
def test_another_idempotency_key_is_refused(values):
    with pytest.raises(InvalidInput) as error:
        idempotency_key(values)
    assert error.value.attr == "Idempotency-Key"


def test_without_the_header_there_is_no_key():
    assert idempotency_key([]) is None
