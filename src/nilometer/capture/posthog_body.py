"""The bodies of PostHog's JSON protocols: an object with a batch, one event, or an array of them.

Section 2 of the contract, "JSON batch paths". Faults of the text as a whole are raised; those of
one event stay with it until the key is known.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from nilometer.capture.authorization import shaped_token
from nilometer.capture.posthog_events import (
    EventRules,
    Members,
    SentEvent,
    read_members,
    sent_event,
)
from nilometer.capture.refusals import (
    InconsistentKeys,
    InvalidEvent,
    MissingKey,
    ParsingFault,
    TooBig,
)
from nilometer.domain.json_text import InvalidJson
from nilometer.domain.json_walk import JsonWalk

MAX_VALUES = 2_000_000
"""Values in one body, as counted by what separates them: each takes up to a hundred bytes of
memory, whatever its text."""

_MAX_TIME_CHARS = 64


@dataclass(slots=True)
class Batch:
    """What a body holds. `token` is the request's own key, which counts before its events' keys;
    `sent_at` is the text that the client sent."""

    events: list[SentEvent] = field(default_factory=list[SentEvent])
    token: str | None = None
    sent_at: str | None = None
    historical: bool = False

    def key(self) -> str:
        """The key that every event is captured with, of the right shape. Raises MissingKey,
        InconsistentKeys and InvalidKey."""
        token = self.token
        if token is None:
            tokens = {event.token for event in self.events} - {None}
            if len(tokens) > 1:
                raise InconsistentKeys
            token = next(iter(tokens), None)
        if token is None:
            raise MissingKey
        return shaped_token(token.encode("utf-8", "replace"))

    def check(self) -> None:
        """Raise the first event's fault, if any has one: all are refused then."""
        if not self.events:
            raise InvalidEvent("request holds no event", code="empty_batch")
        for event in self.events:
            if event.fault is not None:
                raise event.fault


def read_body(body: bytes, rules: EventRules) -> Batch:
    """The batch of a body. Raises ParsingFault for a text that is none, and TooBig."""
    if body.count(b",") + body.count(b"[") + body.count(b"{") > MAX_VALUES:
        raise TooBig(f"a request holds at most {MAX_VALUES} values")
    try:
        walk = JsonWalk(body)
        batch = _batch(walk, rules)
        walk.finish()
    except InvalidJson as error:
        raise ParsingFault(f"the body is not valid JSON: {error}", code="invalid_json") from None
    return batch


def _batch(walk: JsonWalk, rules: EventRules) -> Batch:
    if walk.begins() == "[":
        return Batch(list(_events(walk, rules)))
    if walk.begins() != "{":
        raise ParsingFault("the body is neither an object nor an array", code="invalid_json")
    start = walk.at
    root = Members()
    events: list[SentEvent] | None = None
    for name in walk.members():
        if name == "batch" and walk.begins() == "[":
            events = list(_events(walk, rules))
        else:
            root.take(walk, name)
    if events is None:
        events = [sent_event(root, walk.since(start), rules)]
    return Batch(
        events,
        _first_text(root.fields, "api_key", "token"),
        _time(root.fields.get("sent_at")),
        root.fields.get("historical_migration") is True,
    )


def _events(walk: JsonWalk, rules: EventRules) -> Iterator[SentEvent]:
    for number, _ in enumerate(walk.elements()):
        if number == rules.max_events:
            raise TooBig(f"a request holds at most {rules.max_events} events")
        start = walk.at
        members = read_members(walk)
        yield sent_event(members, walk.since(start), rules)


def _first_text(fields: dict[str, Any], *names: str) -> str | None:
    return next((fields[name] for name in names if isinstance(fields.get(name), str)), None)


def _time(value: Any) -> str | None:
    return value if isinstance(value, str) and len(value) <= _MAX_TIME_CHARS else None
