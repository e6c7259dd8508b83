"""The bodies of LiteLLM's `generic_api`: an array, one payload a line, or one payload.

All three come under `application/json`. LiteLLM deletes what it has sent whatever the answer is, so
this reads what can be read: NaN and halves of surrogate pairs, which Python's json writes, are
taken, and an item that is no payload harms no other.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, cast

from nilometer.capture.posthog_body import MAX_VALUES
from nilometer.capture.refusals import InvalidEvent, ParsingFault, TooBig
from nilometer.conventions import litellm
from nilometer.conventions.litellm_secrets import scrubbed
from nilometer.domain.json_text import InvalidJson
from nilometer.domain.json_walk import JsonWalk
from nilometer.domain.litellm_record import LiteLLMItem
from nilometer.domain.span import plain

_MAX_DEPTH = 128
_REASONS = {
    "not_json": "the line is not valid JSON",
    "not_an_object": "it is not a JSON object",
    "no_id": "it has neither litellm_call_id nor id",
    "too_large": "it is larger than one payload may be",
}


@dataclass(frozen=True, slots=True)
class Payloads:
    """What a body holds. `items` are ready for the log: without secrets, bad ones noted. `faults`
    says of each bad one, by its place in the body, what is wrong; `dropped` is how many good ones
    the project's rules drop."""

    items: tuple[LiteLLMItem, ...]
    faults: dict[int, str]
    dropped: int

    @property
    def accepted(self) -> int:
        """How many of the items are payloads."""
        return len(self.items) - len(self.faults)


@dataclass(frozen=True, slots=True)
class PayloadRules:
    """Limits: bytes of one payload, payloads of one request."""

    max_payload: int
    max_payloads: int


def read_payloads(
    body: bytes, rules: PayloadRules, dropped_distinct_ids: Collection[str] = ()
) -> Payloads:
    """The payloads of a body. One that is too large is a bad one.

    Raises TooBig for too many, ParsingFault for a text that is none of the three forms, and
    InvalidEvent when nothing in it is a payload.
    """
    if body.count(b",") + body.count(b"[") + body.count(b"{") > MAX_VALUES:
        raise TooBig(f"a request holds at most {MAX_VALUES} values")
    items: list[LiteLLMItem] = []
    faults: dict[int, str] = {}
    dropped = 0
    for place, (value, size) in enumerate(_values(body)):
        if place == rules.max_payloads:
            raise TooBig(f"a request holds at most {rules.max_payloads} payloads")
        fault = _fault(value, size, rules)
        if fault:
            faults[place] = _REASONS[fault]
        elif dropped_distinct_ids and litellm.convert(value).distinct_id in dropped_distinct_ids:
            dropped += 1
            continue
        items.append(_item(value, size, fault))
    if len(faults) == len(items) and not dropped:
        reason = next(iter(faults.values()), "the request holds none")
        raise InvalidEvent(f"no payload of LiteLLM: {reason}", code="invalid_payload")
    return Payloads(tuple(items), faults, dropped)


class _NotJson:
    """Stands for the value of a line that has none."""


def _values(body: bytes) -> Iterator[tuple[Any, int]]:
    """Each item's value and the size of its text in characters."""
    text = body.strip()
    if text[:1] == b"[":
        yield from _elements(text)
        return
    try:
        yield _value(text)
    except InvalidJson as error:
        lines = [line for line in text.split(b"\n") if line.strip()]
        if len(lines) == 1:
            raise _invalid(error) from None
        yield from map(_line, lines)


def _elements(text: bytes) -> Iterator[tuple[Any, int]]:
    try:
        walk = JsonWalk(text, lenient=True)
        for _ in walk.elements():
            value, source = walk.value()
            yield value, len(source)
        walk.finish()
    except InvalidJson as error:
        raise _invalid(error) from None


def _value(text: bytes) -> tuple[Any, int]:
    walk = JsonWalk(text, lenient=True)
    value, source = walk.value()
    walk.finish()
    return value, len(source)


def _line(line: bytes) -> tuple[Any, int]:
    try:
        return _value(line)
    except InvalidJson:
        return _NotJson(), len(line)


def _invalid(error: InvalidJson) -> ParsingFault:
    return ParsingFault(f"the body is not valid JSON: {error}", code="invalid_json")


def _fault(value: Any, size: int, rules: PayloadRules) -> str:
    if isinstance(value, _NotJson):
        return "not_json"
    if not isinstance(value, dict):
        return "not_an_object"
    if size > rules.max_payload:
        return "too_large"
    return "" if litellm.is_identified(cast("dict[str, Any]", value)) else "no_id"


def _item(value: Any, size: int, fault: str) -> LiteLLMItem:
    if fault in ("", "no_id"):
        return LiteLLMItem(_text(scrubbed(value)), fault)
    return LiteLLMItem(_text({"fault": _REASONS[fault], "characters": size}), fault)


def _text(value: dict[str, Any]) -> bytes:
    try:
        return _dumps(value).encode()
    except ValueError:  # NaN, or half of a surrogate pair
        return _dumps(plain(value, _MAX_DEPTH)).encode()


def _dumps(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
