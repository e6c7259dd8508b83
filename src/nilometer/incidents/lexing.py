"""What can be told of an expression from its words alone, before it is compiled.

The engine bounds an expression's depth but not what it makes: `+` within a macro over a list makes
a text of gigabytes of a short one. Whoever writes packs meets these bounds, so they are few.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from nilometer.incidents.effort import Effort, Words, effort
from nilometer.incidents.facts import MEMBERS

MAX_LENGTH = 1000
"""Of an expression, in characters."""
MAX_PLUS = 16
MAX_MACROS = 3
MAX_MATCHES = 4
MAX_PATTERN = 256
"""Of a regular expression, in characters."""

MACROS: Final = ("all", "exists", "exists_one")
"""Whose values depend on no order. The engine goes through an object in another one each time, so
that `map` and `filter` would give another list for the same facts."""
_REFUSED: Final = frozenset({"bytes", "filter", "map"})
_OPENING, _CLOSING = frozenset("([{"), frozenset(")]}")
_WORDS = re.compile(
    r"""(?P<text>[bB]?[rR]?(?:\"{3}(?:\\.|[^\\])*?\"{3}|'{3}(?:\\.|[^\\])*?'{3}
        |"(?:\\.|[^"\\\n\r])*"|'(?:\\.|[^'\\\n\r])*'))
    |(?P<note>//[^\n]*)
    |(?P<name>[A-Za-z_]\w*)
    |(?P<number>0x[0-9a-fA-F]+[uU]?|\d*\.\d+(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+|\d+[uU]?)
    |(?P<blank>[\t\n\f\r\ ]+)
    |(?P<sign>[=!<>]=|[-+*/%<>=!&|?:.,()[\]{}])
    |(?P<other>.)""",
    re.VERBOSE | re.DOTALL | re.ASCII,
)
"""The words as the engine reads them. What is none of them is refused, never passed over: the
engine might read it otherwise, and what follows would be seen as something else."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What was found. `problem` says what to change, None where the words are all right; `members`
    are the members of facts that are named; `patterns` the literals that texts are matched with;
    `has_macro`: it goes through a list."""

    problem: str | None
    members: frozenset[tuple[str, str]] = frozenset()
    patterns: tuple[str, ...] = ()
    has_macro: bool = False
    effort: Effort = field(default_factory=Effort)


def read(text: str) -> Reading:
    """Read an expression's words. Takes time in proportion to its length."""
    if not text.strip():
        return Reading("it is empty")
    if len(text) > MAX_LENGTH:
        return Reading(f"it has {len(text)} characters; at most {MAX_LENGTH} are taken")
    found = words(text)
    members = _members(found)
    problem = _strange(found) or _unknown(members) or _too_much(found) or _unfit(found)
    counted = effort(found, _within(found))
    return Reading(problem, members, tuple(_patterns(found)), _macros(found) > 0, counted)


def words(text: str) -> Words:
    """Its words with their kinds, without blanks and notes."""
    return [
        (str(found.lastgroup), found.group())
        for found in _WORDS.finditer(text)
        if found.lastgroup not in ("blank", "note")
    ]


def _at(words: Words, place: int) -> str:
    return words[place][1] if 0 <= place < len(words) else ""


def _called(words: Words, place: int) -> bool:
    return words[place][0] == "name" and _at(words, place + 1) == "("


def _strange(words: Words) -> str | None:
    other = next((word for kind, word in words if kind == "other"), None)
    if other is None:
        return None
    if other == "`":
        return "there are no names in backticks here; write exception.payload['a b']"
    if other in "\"'":
        return f"a text that begins with {other} has no end"
    return f"there is no {other!r} in an expression"


def _members(words: Words) -> frozenset[tuple[str, str]]:
    found: set[tuple[str, str]] = set()
    for place, (kind, word) in enumerate(words):
        is_root = kind == "name" and word in MEMBERS and _at(words, place - 1) != "."
        named = words[place + 2 : place + 3]
        if is_root and _at(words, place + 1) == "." and named and named[0][0] == "name":
            found.add((word, named[0][1]))
    return frozenset(found)


def _unknown(members: frozenset[tuple[str, str]]) -> str | None:
    for part, member in sorted(members):
        known = MEMBERS[part]
        if known is not None and member not in known:
            return f"{part} has no member {member!r}; it has {', '.join(sorted(known))}"
    return None


def _too_much(words: Words) -> str | None:
    plus = sum(word == "+" for _, word in words)
    if plus > MAX_PLUS:
        return f"it has {plus} additions; at most {MAX_PLUS} are taken"
    macros = _macros(words)
    if macros > MAX_MACROS:
        return f"it goes through {macros} lists; at most {MAX_MACROS} are taken"
    matches = sum(word == "matches" for _, word in words)
    if matches > MAX_MATCHES:
        return f"it has {matches} patterns; at most {MAX_MATCHES} are taken"
    return None


def _macros(words: Words) -> int:
    return sum(word in MACROS and _called(words, at) for at, (_, word) in enumerate(words))


def _within(words: Words) -> list[str | None]:
    """For each word the variable of the macro that it is in; of those within one another the
    outer."""
    found: list[str | None] = []
    inside: list[str | None] = []
    for place, (kind, word) in enumerate(words):
        here = inside[-1] if inside else None
        found.append(here)
        if kind == "sign" and word in _OPENING:
            begins = word == "(" and here is None and _at(words, place - 1) in MACROS
            inside.append(_at(words, place + 1) if begins else here)
        elif kind == "sign" and word in _CLOSING and inside:
            inside.pop()
    return found


def _unfit(words: Words) -> str | None:
    inside: list[bool] = []  # for each open bracket: whether it is a macro's, or within one
    for place, (kind, word) in enumerate(words):
        within = bool(inside) and inside[-1]
        if kind == "sign" and word in _OPENING:
            inside.append(within or (word == "(" and _at(words, place - 1) in MACROS))
        elif kind == "sign" and word in _CLOSING and inside:
            inside.pop()
        problem = _unfit_word(words, place, within=within)
        if problem is not None:
            return problem
    return None


def _unfit_word(words: Words, place: int, *, within: bool) -> str | None:
    kind, word = words[place]
    if within and word == "+" and kind == "sign":
        return "it adds within all, exists or exists_one; add outside of it"
    if not _called(words, place):
        return None
    if within and word in MACROS:
        return f"it has {word} within another list's macro; one list at a time"
    if word in _REFUSED:
        return f"there is no {word} here; {', '.join(MACROS)} go through a list"
    if word == "matches" and not _literal_follows(words, place):
        return 'the pattern of matches must be a text in quotes, as in matches("^a+$")'
    return None


def _literal_follows(words: Words, place: int) -> bool:
    return (
        words[place + 2 : place + 3] != []
        and words[place + 2][0] == "text"
        and (_at(words, place + 3) == ")")
    )


def _patterns(words: Words) -> list[str]:
    return [
        words[place + 2][1]
        for place, (_, word) in enumerate(words)
        if word == "matches" and _called(words, place) and _literal_follows(words, place)
    ]
