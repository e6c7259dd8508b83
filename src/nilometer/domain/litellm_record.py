"""The payload of a log record of the LiteLLM door, version 1: one accepted batch of payloads.

One line of JSON that says what follows, then the JSON texts of LiteLLM's payloads, one after the
other, without keys, headers and addresses. What could not be read as a payload has its fault in the
line, and in the place of its text a note without content: it could hold a key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import orjson

from nilometer.domain.ai_record import RecordBroken
from nilometer.domain.redaction.marks import Marks, redacted_of, redaction_marks

DOOR = "litellm"
DOOR_VERSION = 1


class NotAPayload(RecordBroken):
    """An item of a batch is not a payload of LiteLLM."""

    code = "not_a_payload"


@dataclass(frozen=True, slots=True)
class LiteLLMItem:
    """One payload: `text` is a JSON object, in UTF-8. `fault` is "" or a code that says why the
    item is none; `text` then says no more than its kind and size. `redacted` is how often each
    redaction rule was applied."""

    text: bytes
    fault: str = ""
    redacted: Mapping[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True, slots=True, kw_only=True)
class LiteLLMRecord:
    """An accepted batch. `ip` is the sender's address, the proxy's; `retention_days` is the
    project's at acceptance."""

    items: tuple[LiteLLMItem, ...]
    ip: str
    retention_days: int

    def encode(self) -> bytes:
        """The payload of the log record."""
        head = {
            "ip": self.ip,
            "retention_days": self.retention_days,
            "items": [[len(each.text), each.fault] for each in self.items],
            **redaction_marks({n: each.redacted for n, each in enumerate(self.items)}),
        }
        return b"".join((orjson.dumps(head), b"\n", *(each.text for each in self.items)))

    def only(self, index: int) -> LiteLLMRecord:
        """The record with that one item."""
        return replace(self, items=(self.items[index],))


def decode(payload: bytes) -> LiteLLMRecord:
    """The record of a payload. Raises RecordBroken for any other layout."""
    line, newline, rest = payload.partition(b"\n")
    try:
        head = cast("dict[str, Any]", orjson.loads(line))
        record = LiteLLMRecord(
            items=_items(head["items"], rest, redacted_of(head)),
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


def _items(listed: list[tuple[int, str]], texts: bytes, marks: Marks) -> tuple[LiteLLMItem, ...]:
    found: list[LiteLLMItem] = []
    start = 0
    for place, (size, fault) in enumerate(listed):
        if size < 0:
            raise ValueError("an item has a negative size")
        text = texts[start : start + size]
        found.append(LiteLLMItem(text, _text(fault), marks.get(place, {})))
        start += size
    if start != len(texts):
        raise ValueError("the record's length is not what its first line says")
    return tuple(found)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("a text is another JSON value")
    return value
