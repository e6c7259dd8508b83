"""How much work an expression can be, counted from its words and the size of what it sees.

A comparison of objects or lists costs their size, and `all` or `exists` does it for each element.
The engine cannot be stopped on the way, so what would be too much is not begun. One unit is about
200 ns: a value compared with another one.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

from nilometer.incidents.facts import MEMBERS

MAX_WORK: Final = 300_000
"""Of one expression: about 60 ms at the worst."""
MAX_WORK_OF_FACTS: Final = 2_000_000
"""Of all expressions that are evaluated in one stage for one incident: see `sharing`."""
MAX_WORK_OF_BATCH: Final = 4_000_000
"""Of a transaction that does several: beyond that they are done apart."""
_MAKING: Final = 5
"""What an expression sees is made of a payload, which takes so much longer than to compare it."""

CHARACTERS: Final = 64
"""So many of a text weigh as much as a value."""
_MATCHING: Final = 32
"""A pattern takes so much longer than a comparison, of as many characters."""
_STEP: Final = 3
"""The engine compiles a pattern each time it is matched: so much for each of its steps."""


@dataclass(slots=True)
class Allowance:
    """What was spent, in units. `made`: on what expressions see, whether one is evaluated on it or
    not."""

    spent: int = 0
    made: int = 0

    def spend(self, units: int) -> bool:
        """Spend them; whether there were so many."""
        self.spent += min(units, MAX_WORK)
        return self.spent <= MAX_WORK_OF_FACTS

    def make(self, size: Size) -> None:
        """Facts of this size were made to be seen."""
        self.made += _MAKING * size.values


_SHARED: ContextVar[Allowance | None] = ContextVar("allowance", default=None)


@contextmanager
def sharing() -> Generator[Allowance]:
    """One allowance for all facts that this thread evaluates on from here on."""
    allowance = Allowance()
    token = _SHARED.set(allowance)
    try:
        yield allowance
    finally:
        _SHARED.reset(token)


def allowance() -> Allowance:
    """The one that is shared here, or one for these facts alone."""
    return _SHARED.get() or Allowance()


Words = list[tuple[str, str]]
_COMPARED: Final = frozenset({"==", "!=", "in"})
_LITERAL: Final = frozenset({"true", "false", "null", "-"})


@dataclass(frozen=True, slots=True)
class Size:
    """Of facts: their values, the members of their longest list or object, and how much their
    longest text weighs."""

    values: int
    longest: int
    text: int


@dataclass(slots=True)
class Effort:
    """What an expression does: counts of its words outside of macros and within them. `looped_own`
    are comparisons with the element itself, which all together cost no more than the list, and
    `looped_element` its mentions."""

    named: int = 0
    compared: int = 0
    called: int = 0
    matched: int = 0
    added: int = 0
    listed: int = 1
    looped_words: int = 0
    looped_named: int = 0
    looped_compared: int = 0
    looped_own: int = 0
    looped_element: int = 0
    looped_called: int = 0
    looped_matched: int = 0
    steps: int = 0
    """Of its patterns together, as they are compiled."""

    def of(self, size: Size) -> int:
        """The most that it can be for facts of this size, in units."""
        once = self.called + _MATCHING * self.matched
        each = 2 * self.looped_called + _MATCHING * self.looped_matched
        # What is added, or written out, may be longer than anything that is seen.
        rounds = max(size.longest, self.listed) * (1 + self.added)
        text = size.text * (1 + self.added)
        elements = self.looped_own + self.looped_compared * self.looped_element
        return (
            (self.named * size.values if self.compared else 0)
            + once * text
            + _STEP * self.steps * (rounds if self.looped_matched else 1)
            + rounds * self.looped_words // 4
            # A list that is written out may have the same large value in it often.
            + (1 + self.added) * elements * max(1, self.named) * size.values
            + rounds * each * text
            + rounds * self.looped_compared * max(1, self.looped_named) * size.values // 2
        )


def effort(words: Words, within: list[str | None]) -> Effort:
    """Of an expression; `within` has for each word the variable of the macro that it is in."""
    found = Effort()
    for place, (kind, word) in enumerate(words):
        variable = within[place]
        called = kind == "name" and _word(words, place + 1) == "("
        heavy = word in _COMPARED and not _is_cheap(words, place)
        named = kind == "name" and word in MEMBERS and _word(words, place - 1) != "."
        matches = called and word == "matches"
        found.listed += word == ","
        if variable is None:
            found.named += named
            found.compared += heavy
            found.called += called
            found.matched += matches
            found.added += word == "+"
        else:
            found.looped_words += 1
            found.looped_named += named
            own = heavy and word != "in" and _is_own(words, place, variable)
            found.looped_own += own
            found.looped_compared += heavy and not own
            found.looped_element += word == variable and _word(words, place - 1) != "."
            found.looped_called += called
            found.looped_matched += matches
    return found


def _word(words: Words, place: int) -> str:
    return words[place][1] if 0 <= place < len(words) else ""


def _is_own(words: Words, place: int, variable: str) -> bool:
    """Whether one side of a comparison is of the macro's element."""
    if _word(words, place + 1) == variable:
        return True
    at = place - 1
    while at > 1 and words[at][0] == "name" and _word(words, at - 1) == ".":
        at -= 2
    return words[at] == ("name", variable) and _word(words, at - 1) != "."


def _is_cheap(words: Words, place: int) -> bool:
    """Whether it compares with a literal, which ends at once, whatever the other side is."""
    following = words[place + 1] if place + 1 < len(words) else ("", "")
    before = words[place - 1] if place else ("", "")
    if words[place][1] == "in":
        return _literals_follow(words, place + 1)
    return (
        following[0] in ("text", "number")
        or following[1] in _LITERAL
        or before[0] in ("text", "number")
        or before[1] in ("true", "false", "null")
    )


def _literals_follow(words: Words, place: int) -> bool:
    if _word(words, place) != "[":
        return False
    while _word(words, place) not in ("]", ""):
        place += 1
        if words[place : place + 1] and words[place][0] == "name":
            return False
    return True
