"""One registry of typed events: each is produced and consumed, and old versions are read."""

import ast
import importlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import nilometer.incidents
from nilometer.incidents import events
from nilometer.incidents.events import (
    REGISTRY,
    EventType,
    IncidentEvent,
    Payload,
    Unread,
    payload_json,
    read_payload,
)
from nilometer.incidents.incident import Actor, ActorKind
from nilometer.incidents.stages.chain import build
from nilometer.incidents.stages.context import NoPacks
from nilometer.incidents.timeline import SENTENCES, sentence

ROOM = Path(nilometer.incidents.__file__).parent
STAGES = build(NoPacks(), None, None)
CONSUMED = {each.queue: each.kinds for each in (*STAGES.stages, STAGES.tool)}


def made_in(path: Path) -> set[str]:
    """The names of what a module calls."""
    calls = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
    names = {call.func.id for call in calls if isinstance(call.func, ast.Name)}
    # A table of classes that are called by what they are of.
    values = (n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Dict))
    return names | {v.id for each in values for v in each.values if isinstance(v, ast.Name)}


MADE = {
    ".".join(path.relative_to(ROOM).with_suffix("").parts): made_in(path) & set(REGISTRY)
    for path in ROOM.rglob("*.py")
    if path.name not in ("events.py", "timeline.py")
}


def test_every_type_is_produced_where_the_registry_says_and_nowhere_else():
    told = {(name, each) for name, kind in REGISTRY.items() for each in kind.producers}
    assert {(name, module) for module, names in MADE.items() for name in names} == told
    assert all(kind.producers for kind in REGISTRY.values())


def test_every_type_that_asks_for_a_stage_is_worked_on_by_it_and_the_other_way_round():
    told = {(each, name) for name, kind in REGISTRY.items() for each in kind.consumers}
    assert told == {(queue, kind) for queue, kinds in CONSUMED.items() for kind in kinds}


def test_the_timeline_has_a_sentence_for_every_type():
    assert set(SENTENCES) == {kind.payload for kind in REGISTRY.values()}


def test_an_event_leads_to_one_task_at_most():
    """Two tasks could not have one place in the incident's lane."""
    assert all(len(kind.consumers) <= 1 for kind in REGISTRY.values())


@pytest.mark.parametrize("name", REGISTRY)
@given(st.data())
def test_an_envelope_is_read_as_it_was_written_and_has_a_sentence(name, data):
    event = event_with(data.draw(st.builds(REGISTRY[name].payload)))
    assert IncidentEvent.from_json(event.to_json()) == event
    assert sentence(event)


def event_with(payload):
    return IncidentEvent(
        event_id="e",
        project_id=7,
        incident_id="i",
        sequence=3,
        occurred_at=datetime(2026, 1, 2, 3, 4, 5, 6, UTC),
        actor=Actor(ActorKind.KEY, "k"),
        causation_id=None,
        correlation_id="i",
        traceparent=None,
        payload=payload,
    )


def test_names_in_json_are_in_camel_case_and_the_tenant_is_the_project():
    told = events.DuplicateDetected("other", "print", 60)
    assert payload_json(told) == {
        "duplicateOf": "other",
        "fingerprint": "print",
        "windowSeconds": 60,
    }


@dataclass(frozen=True, slots=True)
class Renamed(Payload):
    """As `CommentAdded` might be one day: version 3."""

    text: str


def test_old_versions_are_brought_to_the_newest_one_by_one(monkeypatch):
    steps = (
        lambda facts: {"words": facts["body"]},
        lambda facts: {"text": f"{facts['words']}!"},
    )
    kind = EventType("Renamed", 3, Renamed, ("x",), upcasters=steps)
    monkeypatch.setitem(events._NAMES, Renamed, (("text", "text"),))
    registry = {"Renamed": kind}
    assert read_payload("Renamed", 1, {"body": "a"}, registry) == Renamed("a!")
    assert read_payload("Renamed", 2, {"words": "b"}, registry) == Renamed("b!")
    assert read_payload("Renamed", 3, {"text": "c", "more": 1}, registry) == Renamed("c")
    for version in (0, 4):
        unread = Unread("Renamed", version, {"text": "d"})
        assert read_payload("Renamed", version, {"text": "d"}, registry) == unread


def test_every_type_has_an_upcaster_for_each_of_its_old_versions():
    assert all(len(kind.upcasters) == kind.version - 1 for kind in REGISTRY.values())


def test_what_a_later_release_wrote_is_shown_as_it_is():
    """In a rolling upgrade both are at work, and an incident must stay readable in the older."""
    told = event_with(events.CommentAdded("hello"))
    written = told.to_json() | {"type": "NeverHeardOf", "version": 3, "payload": {"isNew": [1]}}
    read = IncidentEvent.from_json(written)
    assert read.payload == Unread("NeverHeardOf", 3, {"isNew": [1]})
    assert read.to_json() == written
    assert "NeverHeardOf" in sentence(read)
    later = told.to_json() | {"version": 99}
    assert IncidentEvent.from_json(later).to_json() == later


def test_the_modules_that_the_registry_names_are_there():
    for kind in REGISTRY.values():
        for module in kind.producers:
            importlib.import_module(f"nilometer.incidents.{module}")
