"""What the events of a span say: messages as they used to be sent, exceptions, first chunks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from nilometer.conventions.loose_values import mapping, parsed
from nilometer.conventions.spans import content
from nilometer.domain.span import SpanEvent, plain

_MESSAGES = frozenset(f"gen_ai.{role}.message" for role in ("system", "user", "assistant", "tool"))
_CHOICE = "gen_ai.choice"
_PROMPT, _COMPLETION = "gen_ai.content.prompt", "gen_ai.content.completion"
# Their attributes are the span's, in a place of their own.
_DETAILS = frozenset({"gen_ai.client.inference.operation.details", "ai.stream.firstChunk"})
_EXCEPTIONS = frozenset({"exception", "gen_ai.client.operation.exception"})


@dataclass(slots=True)
class Told:
    """What the events told. `others` are those that are no messages, as they were."""

    input: list[Any] = field(default_factory=list[Any])
    output: list[Any] = field(default_factory=list[Any])
    details: dict[str, Any] = field(default_factory=dict[str, Any])
    exception_message: Any = None
    exception_type: Any = None
    others: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])


def told(events: Sequence[SpanEvent]) -> Told:
    """Sort the events of a span; the last exception counts."""
    found = Told()
    for event in events:
        if event.name in _MESSAGES:
            found.input.append(_message(event))
        elif event.name == _CHOICE:
            found.output.append(_message(event))
        elif event.name == _PROMPT:
            found.input += _list(event.attributes.get("gen_ai.prompt"))
        elif event.name == _COMPLETION:
            found.output += _list(event.attributes.get("gen_ai.completion"))
        elif event.name in _DETAILS:
            found.details |= event.attributes
        else:
            _other(found, event)
    return found


def _other(found: Told, event: SpanEvent) -> None:
    if event.name in _EXCEPTIONS:
        found.exception_message = event.attributes.get("exception.message")
        found.exception_type = event.attributes.get("exception.type")
    found.others.append(
        {"name": plain(event.name), "time": event.time, "attributes": plain(event.attributes)}
    )


def _message(event: SpanEvent) -> dict[str, Any]:
    """The event's body: its attributes, or the JSON that Azure's clients put in one of them."""
    body = mapping(event.attributes.get("gen_ai.event.content"))
    attributes = dict(event.attributes) if body is None else body
    return plain(content.message_of({**attributes, "event.name": event.name}))


def _list(value: Any) -> Iterable[Any]:
    read = parsed(value)
    if isinstance(read, list):
        return plain(read)
    return () if read is None else (plain(read),)
