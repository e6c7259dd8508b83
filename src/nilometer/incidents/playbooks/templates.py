"""Parameters with placeholders: `{{ expression }}` in the texts of any JSON value.

A text that is one placeholder and nothing else becomes its value, of whatever type it is; within a
longer text a value is written as text. What is filled in is never looked at for placeholders again,
and expressions see no secret, so that none can be expanded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

import orjson

from nilometer.errors import InvalidInput, NilometerError
from nilometer.incidents.expressions import (
    InvalidExpression,
    NotEvaluable,
    View,
    expression,
)

MAX_DEPTH = 10
MAX_TEXT = 10_000
MAX_PLACES = 50
MAX_RENDERED = 65_536
"""Of one text with its placeholders filled in, in characters."""

MAX_BYTES = 1024 * 1024
"""Of a whole value with its placeholders filled in, as JSON: about four of the largest payloads."""

# Quotes are gone over whole, so that braces in a text end nothing.
_PLACE = re.compile(r"""\{\{((?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|(?!\}\})[^"'])*)\}\}""")


class InvalidTemplate(InvalidInput):
    """A placeholder is no expression, or does not end."""

    code = "invalid_template"


class NotRendered(NilometerError):
    """A placeholder has no value for these facts."""

    code = "params_invalid"


def template_of(value: Any) -> tuple[str, ...]:
    """The expressions of a value's placeholders. Raises InvalidTemplate with the place of the first
    problem."""
    found: list[str] = []
    _collect(value, "", 0, found)
    if len(found) > MAX_PLACES:
        raise InvalidTemplate(f"it has {len(found)} placeholders; at most {MAX_PLACES} are taken")
    return tuple(found)


def render(value: Any, view: View) -> Any:
    """The value with its placeholders filled in. Raises NotRendered, also for one that becomes
    larger than `MAX_BYTES`; that is told as soon as it is."""
    return _Filling(view).rendered(value, "")


def _collect(value: Any, at: str, depth: int, found: list[str]) -> None:
    if depth > MAX_DEPTH:
        raise InvalidTemplate(f"{at}: nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, str):
        found.extend(_expressions(value, at))
    elif isinstance(value, Mapping):
        for name, each in cast("Mapping[str, Any]", value).items():
            _collect(each, _below(at, name), depth + 1, found)
    elif isinstance(value, list | tuple):
        for place, each in enumerate(cast("list[Any]", value)):
            _collect(each, _below(at, place), depth + 1, found)


def _expressions(text: str, at: str) -> list[str]:
    told = f"{at}: " if at else ""
    if len(text) > MAX_TEXT:
        raise InvalidTemplate(f"{told}at most {MAX_TEXT} characters are taken")
    found = [inner.strip() for inner in _PLACE.findall(text)]
    if "{{" in _PLACE.sub("", text):
        raise InvalidTemplate(f"{told}a placeholder that begins with {{{{ must end with }}}}")
    for each in found:
        try:
            expression(each)
        except InvalidExpression as error:
            raise InvalidTemplate(f"{told}{error.detail}") from None
    return found


class _Filling:
    """One value filled in. `_left` is how many bytes its placeholders may still become."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._left = MAX_BYTES

    def rendered(self, value: Any, at: str) -> Any:
        """A part of it, which is at this place."""
        if isinstance(value, str):
            return self._filled(value, at) if "{{" in value else value
        if isinstance(value, Mapping):
            members = cast("Mapping[str, Any]", value).items()
            return {name: self.rendered(each, _below(at, name)) for name, each in members}
        if isinstance(value, list | tuple):
            elements = enumerate(cast("list[Any]", value))
            return [self.rendered(each, _below(at, place)) for place, each in elements]
        return value

    def _filled(self, text: str, at: str) -> Any:
        whole = _PLACE.fullmatch(text.strip())
        if whole is not None:
            return self._value(whole.group(1), at)
        filled = _PLACE.sub(lambda found: _written(self._value(found.group(1), at)), text)
        if len(filled) > MAX_RENDERED:
            raise NotRendered(f"{_told(at)}becomes longer than {MAX_RENDERED} characters")
        return filled

    def _value(self, text: str, at: str) -> Any:
        try:
            value = expression(text.strip()).value(self._view)
        except NotEvaluable as error:
            raise NotRendered(f"{_told(at)}{error.detail}") from None
        self._left -= len(orjson.dumps(value))
        if self._left < 0:
            raise NotRendered(f"{_told(at)}with it all becomes larger than {MAX_BYTES:,} bytes")
        return value


def _written(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else orjson.dumps(value).decode()


def _told(at: str) -> str:
    return f"{at}: " if at else ""


def _below(at: str, name: str | int) -> str:
    return f"{at}.{name}" if at else str(name)
