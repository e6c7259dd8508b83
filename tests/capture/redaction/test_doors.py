"""Each rule at each door: what it is about is in nothing that is kept; everything else is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nilometer.log.envelope import Envelope
from nilometer.pipeline import mapping
from nilometer.pipeline.mapping import Rows, Unmappable
from tests.capture.door import Door
from tests.capture.redaction.conftest import Guarded
from tests.capture.redaction.senders import RULES, SECRETS, SENDERS, TEXT, TOKENS

_OF_THE_PERSON = {"posthog_engage"}


def forms(secret: str) -> list[bytes]:
    """A text as UTF-8, UTF-16 and hexadecimal have it."""
    return [secret.encode(), secret.encode("utf-16-le"), secret.encode().hex().encode()]


def rows(envelope: Envelope) -> list[dict[str, Any]]:
    """The events that the pipeline makes of a record, calls with them; dead letters left out."""
    found = []
    for mapped in mapping.map_record(envelope):
        if isinstance(mapped, Unmappable):
            continue
        assert isinstance(mapped, Rows)
        found.append(json.loads(mapped.event) | {"call_id": mapped.call_id})
    return found


def identity(door: Door) -> list[Any]:
    """What tells calls apart, and what was counted."""
    names = ("uuid", "event", "distinct_id", "trace_id", "span_id", "call_id", "input_tokens")
    found = [row for envelope in door.log.envelopes for row in rows(envelope)]
    return [[row.get(name) for name in names] for row in found[:1]]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", SENDERS)
def test_what_a_rule_names_is_in_nothing_that_is_kept(guarded: Guarded, name: str, rule: str):
    response = SENDERS[name](guarded.door, guarded.project(RULES[rule]))
    assert response.status_code == 200, response.text
    kept = guarded.kept()
    for form in forms(SECRETS[rule]):
        assert form not in kept
    marked = [
        row.get("redacted", "{}") for each in guarded.door.log.envelopes for row in rows(each)
    ]
    assert rule in json.loads(marked[0])
    assert all(secret not in marks for marks in marked for secret in SECRETS.values())
    if rule != "content":
        others = [secret for other, secret in SECRETS.items() if other != rule]
        assert all(secret.encode() in kept for secret in others)


IDENTITIES = {"patterns": [{"name": "ids", "regex": "[0-9a-f]{4}|chatcmpl|someone"}]}


@pytest.mark.parametrize("rule", [*RULES, "one that matches every id"])
@pytest.mark.parametrize("name", SENDERS)
def test_a_rule_never_changes_which_call_it_is(guarded: Guarded, name: str, rule: str):
    seen = []
    for rules in (None, RULES.get(rule, IDENTITIES)):
        guarded.door.log.envelopes.clear()
        assert SENDERS[name](guarded.door, guarded.project(rules)).status_code == 200
        seen.append(identity(guarded.door))
    assert seen[0] == seen[1]
    assert seen[0]
    assert name == "posthog_engage" or seen[0][0][-1] == TOKENS


@pytest.mark.parametrize("name", SENDERS)
def test_rules_that_match_nothing_keep_every_byte(guarded: Guarded, name: str):
    kept = []
    never = {"patterns": [{"name": "never", "regex": "there is no such text"}], "keys": ["nobody"]}
    for rules in (None, never):
        guarded.door.log.envelopes.clear()
        assert SENDERS[name](guarded.door, guarded.project(rules)).status_code == 200
        [envelope] = guarded.door.log.envelopes
        kept.append(envelope.payload.partition(b"\n"))
    assert kept[0][2] == kept[1][2]
    assert b"redacted" not in kept[1][0]


@pytest.mark.parametrize("name", SENDERS)
def test_without_rules_and_for_other_projects_nothing_is_redacted(guarded: Guarded, name: str):
    guarded.project({"patterns": ["email"], "keys": ["password"], "content": "none"})
    assert SENDERS[name](guarded.door, guarded.project(None)).status_code == 200
    kept = guarded.kept()
    assert TEXT.encode() in kept
    assert b"[redacted:" not in kept


@pytest.mark.parametrize("name", SENDERS)
def test_all_rules_at_once(guarded: Guarded, name: str):
    every = {
        "patterns": ["email", *RULES["staff"]["patterns"]],
        "keys": ["password"],
        "content": "keep",
    }
    assert SENDERS[name](guarded.door, guarded.project(every)).status_code == 200
    kept = guarded.kept()
    assert not any(form in kept for rule in list(RULES)[:3] for form in forms(SECRETS[rule]))


@pytest.mark.parametrize("name", SENDERS)
def test_an_error_while_redacting_refuses_the_request_and_keeps_nothing(
    guarded: Guarded, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    from nilometer.domain.redaction.redactor import Redactor

    def broken(*_: Any, **__: Any) -> str:
        raise RuntimeError(TEXT)

    key = guarded.project(RULES["email"])
    monkeypatch.setattr(Redactor, "text", broken)
    response = SENDERS[name](guarded.door, key)
    assert response.status_code == 500
    assert guarded.kept() == b""
    assert TEXT not in response.text + caplog.text


@pytest.mark.parametrize("name", SENDERS)
def test_rules_of_a_later_release_let_nothing_through(guarded: Guarded, name: str):
    from sqlalchemy import update

    from nilometer.access.tables import Project
    from nilometer.database.fence import EVERY_ROW

    key = guarded.project(RULES["email"])
    with guarded.access.database.session(EVERY_ROW) as session:
        newest = session.query(Project.id).order_by(Project.id.desc()).limit(1).scalar()
        rules = {"patterns": ["a_pattern_of_tomorrow"]}
        session.execute(update(Project).where(Project.id == newest).values(redaction=rules))
    response = SENDERS[name](guarded.door, key)
    assert response.status_code == 503
    assert "Retry-After" in response.headers
    assert guarded.kept() == b""
