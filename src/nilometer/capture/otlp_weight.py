"""How many parts a message of OTLP has, counted before anything is allocated for them.

An empty attribute is two bytes on the wire and 56 in memory (measured), so a body within its limit
could take a gigabyte. Small messages are not counted: their bytes bound their parts.
"""

from __future__ import annotations

from collections.abc import Mapping

from nilometer.domain.protobuf_wire import LENGTH_DELIMITED, fields

COUNTED_FROM = 64 * 1024
"""Bytes below which a message is let pass: at most 1.8 MB of empty attributes."""
MAX_PARTS = 50_000
"""Attributes, values, events and links of one span, resource or scope."""

# Which fields of a message are messages with parts of their own (opentelemetry-proto 1.x).
_ANY: dict[int, Mapping[int, object]] = {}
_KEY_VALUE = {2: _ANY}
_ANY.update({5: {1: _ANY}, 6: {1: _KEY_VALUE}})
_EVENT = {3: _KEY_VALUE}
_LINK = {4: _KEY_VALUE}
SPAN: Mapping[int, object] = {9: _KEY_VALUE, 11: _EVENT, 13: _LINK}
RESOURCE_SPANS: Mapping[int, object] = {1: {1: _KEY_VALUE}}
SCOPE_SPANS: Mapping[int, object] = {1: {3: _KEY_VALUE}}


def too_many_parts(message: bytes, layout: Mapping[int, object]) -> bool:
    """Whether the message has more than `MAX_PARTS`. Raises MalformedMessage."""
    if len(message) < COUNTED_FROM:
        return False
    parts = 0
    waiting: list[tuple[Mapping[int, object], int, int]] = [(layout, 0, len(message))]
    while waiting:
        known, start, end = waiting.pop()
        for number, kind, _, begin, last in fields(message, start, end):
            parts += 1
            if parts > MAX_PARTS:
                return True
            inner = known.get(number)
            if kind == LENGTH_DELIMITED and isinstance(inner, dict):
                waiting.append((inner, begin, last))  # pyright: ignore[reportUnknownArgumentType]
    return False
