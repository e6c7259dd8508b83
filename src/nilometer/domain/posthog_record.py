"""The payload of a log record of the PostHog doors, version 1: one accepted batch of JSON events.

One line of JSON that says what follows, then the JSON texts of the events, one after the other, as
their client sent them, but without its key. Each event has its identity in the line: the uuid that
it came with, or the one that the door made for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import orjson

from nilometer.domain.ai_record import RecordBroken
from nilometer.domain.redaction.marks import Marks, redacted_of, redaction_marks

DOOR = "posthog"
DOOR_VERSION = 1


@dataclass(frozen=True, slots=True)
class PostHogEvent:
    """One event: `uuid` is canonical, `text` a JSON object without a key, `internal` says that
    its client's address is not kept, `redacted` how often each redaction rule was applied."""

    uuid: str
    text: bytes
    internal: bool = False
    redacted: Mapping[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True, slots=True, kw_only=True)
class PostHogRecord:
    """An accepted batch, and what the door knew.

    `protocol` is `v0` or `v1`: where an event's fields are. `engage` says that the events are
    updates of a person, which have no name. `sent_at` is the request's, by the client's clock, an
    ISO 8601 text. `historical` is its `historical_migration`. `sdk` is the SDK's name and version
    where a header says them. `retention_days` is the project's at acceptance.
    """

    events: tuple[PostHogEvent, ...]
    protocol: str
    sent_at: str | None
    ip: str
    retention_days: int
    engage: bool = False
    historical: bool = False
    sdk: str | None = None

    def encode(self) -> bytes:
        """The payload."""
        head = {
            "protocol": self.protocol,
            "engage": self.engage,
            "sent_at": self.sent_at,
            "historical": self.historical,
            "sdk": self.sdk,
            "ip": self.ip,
            "retention_days": self.retention_days,
            "events": [[each.uuid, len(each.text), each.internal] for each in self.events],
            **redaction_marks({n: each.redacted for n, each in enumerate(self.events)}),
        }
        return b"".join((orjson.dumps(head), b"\n", *(each.text for each in self.events)))

    def only(self, index: int) -> PostHogRecord:
        """The record with that one event."""
        return replace(self, events=(self.events[index],))


def decode(payload: bytes) -> PostHogRecord:
    """The record of a payload. Raises RecordBroken for any other layout."""
    line, newline, rest = payload.partition(b"\n")
    try:
        head = cast("dict[str, Any]", orjson.loads(line))
        record = PostHogRecord(
            events=_events(head["events"], rest, redacted_of(head)),
            protocol=_text(head["protocol"]),
            engage=bool(head["engage"]),
            sent_at=_optional_text(head["sent_at"]),
            historical=bool(head["historical"]),
            sdk=_optional_text(head["sdk"]),
            ip=_text(head["ip"]),
            retention_days=int(head["retention_days"]),
        )
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise RecordBroken(
            f"the record's first line is not as version 1 writes it: {error}"
        ) from None
    if not newline:
        raise RecordBroken("the record has no first line")
    return record


def _events(
    listed: list[tuple[str, int, bool]], texts: bytes, marks: Marks
) -> tuple[PostHogEvent, ...]:
    found: list[PostHogEvent] = []
    start = 0
    for place, (uuid, size, internal) in enumerate(listed):
        if size < 0:
            raise ValueError("an event has a negative size")
        text = texts[start : start + size]
        found.append(PostHogEvent(_text(uuid), text, bool(internal), marks.get(place, {})))
        start += size
    if start != len(texts):
        raise ValueError("the record's length is not what its first line says")
    return tuple(found)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("a text is another JSON value")
    return value


def _optional_text(value: Any) -> str | None:
    return None if value is None else _text(value)
