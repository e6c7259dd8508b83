"""Where something stands in the text of a query: lines and columns, from 1."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import TypeAlias

Place: TypeAlias = tuple[int, int]

# What holds no word of the query: quoted text and comments.
_QUOTED = r"'(?:[^'\\]|\\.|'')*'|--[^\n]*|#[ !][^\n]*|/\*.*?\*/"
_WORD = re.compile(_QUOTED + r"|(?P<word>`[^`]*`|\"[^\"]*\"|\$?\w[\w$]*|\*)", re.DOTALL)
_BRACKET = re.compile(
    _QUOTED
    + r"|`[^`]*`|\"[^\"]*\"|(?P<query>\(\s*(?=(?:SELECT|WITH)\b))|(?P<open>\()|(?P<close>\))",
    re.DOTALL | re.IGNORECASE,
)
_CONVERSION = re.compile(_QUOTED + r"|(?P<word>::|\bCAST\b)", re.DOTALL | re.IGNORECASE)


def at(sql: str, offset: int) -> Place:
    """The place of an offset."""
    before = sql[:offset]
    return before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1


def words(sql: str) -> Iterator[tuple[str, int]]:
    """The words outside quotes and comments, each with its offset."""
    for match in _WORD.finditer(sql):
        if match["word"]:
            yield match["word"].strip('`"'), match.start()


def of_word(sql: str, word: str) -> Place | None:
    """Where the query first has this word outside quotes and comments; for `a.b`, its last part."""
    for name in (word, word.rpartition(".")[2]):
        for found, offset in words(sql):
            if found.lower() == name.lower():
                return at(sql, offset)
    return None


def after(sql: str, word: str, before: str) -> Place | None:
    """Where the query has this word right after another one."""
    for (last, _), (found, offset) in pairwise(words(sql)):
        if found == word and last.lower() == before.lower():
            return at(sql, offset)
    return None


def of_conversion(sql: str) -> Place | None:
    """Where the query first converts a value, by `::` or CAST."""
    found = next((each for each in _CONVERSION.finditer(sql) if each["word"]), None)
    return at(sql, found.start()) if found else None


def in_subquery(sql: str, name: str) -> Place | None:
    """Where a subquery has `a.b`, if `a` stands in the query around it too."""
    table, dot, column = name.partition(".")
    if not dot:
        return None
    found = list(words(sql))
    inside = [
        offset
        for (first, _), (second, offset) in pairwise(found)
        if (first, second) == (table, column) and _depth(sql, offset)
    ]
    around = any(word == table and not _depth(sql, offset) for word, offset in found)
    return at(sql, inside[0]) if inside and around else None


def _depth(sql: str, offset: int) -> int:
    """How many subqueries are open at an offset."""
    opened: list[bool] = []
    for match in _BRACKET.finditer(sql, 0, offset):
        if match["query"] or match["open"]:
            opened.append(bool(match["query"]))
        elif match["close"] and opened:
            opened.pop()
    return sum(opened)
