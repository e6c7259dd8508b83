"""A JSON text read member by member, so that no more than one value is in memory at a time.

A parsed value takes up to twenty times its text. Whoever needs only parts of a large text, or its
parts one after the other, walks it; what is accepted is what `json_text.loads` accepts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nilometer.domain import json_text
from nilometer.domain.json_text import InvalidJson

_WHITESPACE = " \t\n\r"


class JsonWalk:
    """One text in UTF-8, read once from its start.

    At each place its reader decides: take the `value` whole, or go through its `members` or
    `elements`, each of which must be taken before the next. Everything raises InvalidJson.

    `lenient` takes values as Python's json writes them: with NaN, Infinity and lone surrogates.
    """

    def __init__(self, data: bytes, *, lenient: bool = False) -> None:
        self._text = json_text.decoded(data)
        self._lenient = lenient
        self._escaped = not lenient and json_text.may_have_surrogates(self._text)
        self.at = 0
        """The place, in characters; after a value, the one behind it."""
        self._skip()

    def begins(self) -> str:
        """The first character of what stands here, "" at the end: `{`, `[` or another."""
        return self._text[self.at : self.at + 1]

    def since(self, start: int) -> str:
        """The text from an earlier place to the end of the value before here."""
        return self._text[start : self.at].rstrip(_WHITESPACE)

    def value(self) -> tuple[Any, str]:
        """The value that stands here, and its text as it was sent."""
        start = self.at
        value, end = json_text.value_at(self._text, start, lenient=self._lenient)
        text = self._text[start:end]
        if self._escaped:
            json_text.check_surrogates(text, value)
        self.at = end
        self._skip()
        return value, text

    def members(self) -> Iterator[str]:
        """The names of the object that stands here; at each, its value stands here."""
        seen: set[str] = set()
        for _ in self._items("{", "}", "an object"):
            if self.begins() != '"':
                raise self._unexpected("the name of a member")
            name: str = self.value()[0]
            if name in seen:
                raise json_text.duplicate_key(name)
            seen.add(name)
            self._take(":", "a colon")
            yield name

    def elements(self) -> Iterator[None]:
        """The elements of the array that stands here; at each, it stands here."""
        return self._items("[", "]", "an array")

    def finish(self) -> None:
        """Nothing may follow the outermost value."""
        if self.at != len(self._text):
            raise json_text.extra_data(self._text, self.at)

    def _items(self, opening: str, closing: str, kind: str) -> Iterator[None]:
        self._take(opening, kind)
        if self.begins() == closing:
            self._take(closing, "")
            return
        while True:
            yield
            if self.begins() == closing:
                self._take(closing, "")
                return
            self._take(",", "a comma")

    def _take(self, character: str, name: str) -> None:
        if self.begins() != character:
            raise self._unexpected(name)
        self.at += 1
        self._skip()

    def _skip(self) -> None:
        # Compact texts, which most are, have nothing to skip.
        if self._text[self.at : self.at + 1] in _WHITESPACE:
            self.at = json_text.skip(self._text, self.at)

    def _unexpected(self, wanted: str) -> InvalidJson:
        return json_text.unexpected(self._text, self.at, wanted)
