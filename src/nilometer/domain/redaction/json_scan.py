"""Redaction of a JSON text in place: what no rule touches keeps the bytes that were sent.

The text is walked token by token, not parsed: numbers keep their digits, a repeated key stays, and
however deep it nests, nothing recurses. It must be valid JSON, as the doors have found it to be.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable

from nilometer.domain import json_text
from nilometer.domain.redaction.confirming import is_card
from nilometer.domain.redaction.layout import Layout
from nilometer.domain.redaction.rules import CONTENT, replacement

# A string, a bracket, or a whole number with as many digits as a card's.
_TOKEN = re.compile(
    r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{}]|(?<![\w.+-])[0-9]{13,19}(?![\w.])', re.DOTALL
)
_PLAIN_STRING = re.compile(r'"[^"\\]*+"')
_SCALAR = re.compile(r"[^\s,\]}]++")
_CARD = "credit_card"
_REMEMBERED = 64
_MOST_REMEMBERED = 10_000

Replace = Callable[[str], str]


class JsonScan:
    """One pass over one text.

    `text_of` redacts the text of a string, `rule_of` gives the rule of a member's name or "".
    `cards` says that numbers may be cards. `counts` gets what was redacted, by rule.
    """

    def __init__(
        self,
        text: str,
        *,
        text_of: Replace,
        name_of: Replace,
        rule_of: Replace,
        cards: bool,
        counts: Counter[str],
    ) -> None:
        self._text = text
        self._text_of = text_of
        self._name_of = name_of
        self._rule_of = rule_of
        self._cards = cards
        self._counts = counts
        self._pieces: list[str] = []
        self._done = 0
        self._within: list[tuple[str, Layout | None]] = []
        self._next: Layout | None = None
        self._names: Counter[str] = Counter()
        self._strings: frozenset[str] | None = None
        self._clean: set[str] = set()
        self._clean_names: set[str] = set()

    def run(self, layout: Layout | None) -> str:
        """The text, redacted; itself where nothing was."""
        text, place = self._text, 0
        self._next = layout
        while token := _TOKEN.search(text, place):
            start, place = token.span()
            first = text[start]
            if first == '"':
                place = self._string(start, place)
            elif first in "{[":
                self._open(first)
            elif first in "}]":
                self._close()
            elif self._cards and is_card(token.group().encode()):
                self._put(start, place, replacement(_CARD), _CARD)
        return "".join([*self._pieces, text[self._done :]]) if self._done else text

    def _open(self, bracket: str) -> None:
        """The items of a list have its layout; members have their own, once they are named."""
        self._within.append((bracket, self._next))
        if bracket == "{":
            self._next = None

    def _close(self) -> None:
        self._within.pop()
        bracket, layout = self._here()
        self._next = layout if bracket == "[" else None

    def _here(self) -> tuple[str, Layout | None]:
        return self._within[-1] if self._within else ("", None)

    def _string(self, start: int, end: int) -> int:
        """Where to go on after the string there: behind the member that it names, if that is
        settled with its name."""
        text = self._text
        colon = json_text.skip(text, end)
        if text[colon : colon + 1] == ":":
            return self._member(start, end, json_text.skip(text, colon + 1))
        bracket, layout = self._here()
        if bracket == "[" and layout is not None and layout.keeps is not None:
            self._splice(start, end, "null")
            self._counts[CONTENT] += 1
            return end
        given = self._decoded(start, end)
        if given not in self._clean:
            told = self._text_of(given)
            if told is not given:
                self._splice(start, end, _quoted(told))
            else:
                self._remember(self._clean, given)
        return end

    def _member(self, start: int, end: int, value: int) -> int:
        _, layout = self._here()
        name = self._decoded(start, end)
        if layout is None and name in self._clean_names:
            self._next = None
            return value
        begins = self._text[value]
        if layout is not None and layout.drops(name, begins):
            return self._drop(start, value)
        rule = "" if layout is not None and name in layout.fixed else self._rule_of(name)
        if rule and begins != "n":
            return self._put_member(value, rule)
        self._next = None
        if layout is not None:
            if name in layout.fixed or name in layout.named:
                return self._end_of(value)
            self._next = layout.inner.get(name)
            if layout.knows(name):
                return value
        told = self._name_of(name)
        if told is not name:
            self._splice(start, end, self._unused(told))
        elif not rule:
            self._remember(self._clean_names, name)
        return value

    def _put_member(self, value: int, rule: str) -> int:
        """Replace a member's value; one that was replaced before stays."""
        end = self._end_of(value)
        told = _quoted(replacement(rule))
        if self._text[value:end] != told:
            self._splice(value, end, told)
            self._counts[rule] += 1
        return end

    def _remember(self, clean: set[str], text: str) -> None:
        """Texts that no rule touches, most of which come again: names above all."""
        if len(text) <= _REMEMBERED and len(clean) < _MOST_REMEMBERED:
            clean.add(text)

    def _unused(self, name: str) -> str:
        """The name, quoted, made one that the text does not have: two members of one object must
        not become one."""
        if self._strings is None:
            marked = replacement("")[:-1] in self._text
            self._strings = frozenset(_PLAIN_STRING.findall(self._text) if marked else ())
        while True:
            self._names[name] += 1
            number = self._names[name]
            quoted = _quoted(name if number == 1 else f"{name} {number}")
            if quoted not in self._strings:
                return quoted

    def _drop(self, start: int, value: int) -> int:
        """Leave a member out, with the comma that follows it, or else the one before it."""
        end = json_text.skip(self._text, self._end_of(value))
        self._counts[CONTENT] += 1
        if self._text[end] == ",":
            end = json_text.skip(self._text, end + 1)
            self._splice(start, end, "")
            return end
        self._pieces.append(self._text[self._done : start])
        _drop_comma(self._pieces)
        self._done = end
        return end

    def _put(self, start: int, end: int, told: str, rule: str) -> None:
        self._splice(start, end, _quoted(told))
        self._counts[rule] += 1

    def _splice(self, start: int, end: int, told: str) -> None:
        self._pieces += [self._text[self._done : start], told]
        self._done = end

    def _decoded(self, start: int, end: int) -> str:
        given = self._text[start + 1 : end - 1]
        return json.loads(self._text[start:end], strict=False) if "\\" in given else given

    def _end_of(self, value: int) -> int:
        """Where the value that begins there ends."""
        text = self._text
        if text[value] not in '"{[':
            scalar = _SCALAR.match(text, value)
            return scalar.end() if scalar else value
        depth, place = 0, value
        while token := _TOKEN.search(text, place):
            place = token.end()
            depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(token.group(), 0)
            if depth == 0:
                return place
        return len(text)


def _drop_comma(pieces: list[str]) -> None:
    """Take the last comma off what was written, and the space behind it."""
    while pieces:
        last = pieces.pop().rstrip()
        if last:
            pieces.append(last.removesuffix(","))
            return


def _quoted(text: str) -> str:
    """The text as JSON that UTF-8 can hold: half of a surrogate pair stays an escape."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(text)
    return json.dumps(text, ensure_ascii=False)
