from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given, settings

from nilometer.domain.redaction.reading import read_rules
from nilometer.incidents.incident import NewException, Severity
from nilometer.incidents.normalisation import normalise, sla_seconds_of
from tests.incidents.packs.made import pack, payloads

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def read(made, payload=None, rules=None, **raised):
    given = {"exception_type": "A", "source_system": "tests", "payload": payload or {}, **raised}
    return normalise(made, NewException(**given), project_id=1, now=NOW, rules=rules)


def test_a_type_is_known_by_its_aliases_and_brings_its_own_reading():
    made = pack(
        domain="d",
        exceptions=[
            {
                "type": "A",
                "aliases": ["old-a"],
                "severity": "high",
                "entity": "exception.payload.who",
                "amount": "exception.payload.usd",
            }
        ],
        normalisation={"entity": "'other'", "sla_seconds": {"high": 60, "medium": 90}},
    )
    found = read(made, {"who": 7, "usd": "12.50"}, exception_type="old-a")
    assert (found.type, found.domain, found.entity) == ("A", "d", "7")
    assert (found.amount, found.occurred_at, found.sla_seconds) == (Decimal("12.50"), NOW, 60)
    assert found.facts()["amount"] == "12.50"
    other = read(made, exception_type="X", severity=" HIGH ", domain="own")
    assert (other.type, other.domain, other.entity, other.severity) == (
        *("X", "own", "other"),
        Severity.HIGH,
    )


@pytest.mark.parametrize(
    ("given", "amount"),
    [
        ("0.000000000000000001", Decimal("0.000000000000000001")),
        (3, Decimal(3)),
        (1.5, Decimal("1.5")),
        ("-2", Decimal(-2)),
        ("NaN", None),
        ("1e99", None),
        ("0.0000000000000000001", None),
        (True, None),
        ([], None),
        ("much", None),
    ],
)
def test_an_amount_is_exact_or_none(given, amount):
    made = pack(normalisation={"amount": "exception.payload.usd"})
    assert read(made, {"usd": given}).amount == amount


def test_what_is_never_kept_is_taken_out_with_its_places():
    made = pack(
        normalisation={
            "entity": "exception.payload.mail",
            "redaction": {
                "rules": {"patterns": ["email", "credit_card"], "keys": ["Password"]},
                "paths": ["people.*.name", "whole"],
            },
        }
    )
    payload = {
        "mail": "ada@example.com",
        "password": {"deep": 1},
        "people": [{"name": "Ada", "age": 36}, {"name": "Bob"}],
        "whole": [1, 2],
        "shippingStatus": "pin city",
        "card": 4111111111111111,
        "text": '{"password": "x", "mail": "ada@example.com"}',
        "n": 12,
    }
    found = read(made, payload)
    assert found.payload == {
        "mail": "[redacted:email]",
        "password": "[redacted:key:Password]",
        "people": [
            {"name": "[redacted:path]", "age": 36},
            {"name": "[redacted:path]"},
        ],
        "whole": "[redacted:path]",
        "shippingStatus": "pin city",
        "card": "[redacted:credit_card]",
        "text": '{"password": "[redacted:key:Password]", "mail": "[redacted:email]"}',
        "n": 12,
    }
    assert set(found.redacted) == {
        "payload.mail",
        "payload.password",
        "payload.people.0.name",
        "payload.people.1.name",
        "payload.whole",
        "payload.card",
        "payload.text",
    }
    assert found.entity == "[redacted:email]"


def test_the_projects_own_rules_apply_besides_the_packs():
    rules = read_rules({"content": "none", "keys": ["a"]})
    found = read(pack(), {"a": "x", "prompt": "some words", "model": "gpt-4o"}, rules)
    assert found.payload == {
        "a": "[redacted:key:a]",
        "prompt": "[redacted:content]",
        "model": "gpt-4o",
    }


def test_a_fingerprint_is_of_the_fields_and_of_nothing_else():
    fields = ["exception.payload.a", "exception.entity"]
    made = pack(
        normalisation={
            "entity": "exception.payload.e",
            "fingerprint": {"fields": fields, "window_seconds": 60},
        }
    )
    one = read(made, {"a": 1, "e": "x", "z": 1})
    assert one.fingerprint is not None
    assert one.window_seconds == 60
    assert read(made, {"a": 1, "e": "x", "z": 2}).fingerprint == one.fingerprint
    others = [{"a": 2, "e": "x"}, {"a": 1, "e": "y"}, {"a": "1", "e": "x"}, {"a": 1}]
    prints = {read(made, each).fingerprint for each in others}
    prints.add(read(made, {"a": 1, "e": "x"}, exception_type="B").fingerprint)
    assert len(prints | {one.fingerprint}) == 6
    assert read(made, {"z": 1}).fingerprint is None
    assert read(pack(), {"a": 1}).fingerprint is None


def test_the_time_that_is_left_is_the_tenants_then_the_types_then_the_packs():
    made = pack(
        exceptions=[{"type": "A", "sla_seconds": 5}],
        normalisation={"sla_seconds": {"high": 9}},
        overrides=[{"tenants": [2], "sla_seconds": {"high": 1}}],
    )
    asked = [("A", "high", 2), ("A", "low", 2), ("B", "high", 1), ("B", "low", 1)]
    found = [sla_seconds_of(made, kind, Severity(level), tenant) for kind, level, tenant in asked]
    assert found == [1, 5, 9, None]


@settings(max_examples=50)
@given(payloads)
def test_the_same_exception_is_always_read_the_same(payload):
    made = pack(
        normalisation={
            "entity": "exception.payload.s",
            "amount": "exception.payload.n",
            "redaction": {"rules": {"patterns": ["email"]}, "paths": ["l.*"]},
            "fingerprint": {"fields": ["exception.payload.n"], "window_seconds": 1},
        }
    )
    assert read(made, payload) == read(made, payload)
