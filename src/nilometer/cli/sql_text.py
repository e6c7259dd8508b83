"""The little that the command reads of SQL itself: where a statement ends, and what kind of value a
parameter takes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from nilometer.errors import InvalidInput

# ClickHouse's own tokens, as far as a semicolon can hide in them; what is not closed goes on to the
# end.
_TOKEN = re.compile(
    r"""(?P<end>;)
    | (?P<blank> \s+ | --[^\n]* | \#[!\ ][^\n]* | /\*.*?(?:\*/|\Z) )
    | '(?:[^'\\]|\\.)*(?:'|\\?\Z) | "(?:[^"\\]|\\.)*(?:"|\\?\Z) | `(?:[^`\\]|\\.)*(?:`|\\?\Z)
    | [^\W\d][\w$]*
    | \$(?P<tag>\w*)\$.*?(?:\$(?P=tag)\$|\Z)
    | .""",
    re.DOTALL | re.VERBOSE,
)
_PARAMETER = re.compile(
    r"\{\s*(\w+)\s*:\s*((?:(?:Nullable|LowCardinality)\s*\(\s*)*)(\w*)", re.IGNORECASE
)
_AS_JSON = re.compile(r"u?int\d+|bool|array|tuple|map", re.IGNORECASE)


def split(text: str) -> tuple[list[str], str]:
    """The statements that a semicolon ends, without it, and the rest. One of comments only is left
    out."""
    statements: list[str] = []
    begin, is_empty = 0, True
    for token in _TOKEN.finditer(text):
        if token.lastgroup != "end":
            is_empty = is_empty and token.lastgroup == "blank"
            continue
        if not is_empty:
            statements.append(text[begin : token.start()].strip())
        begin, is_empty = token.end(), True
    return statements, text[begin:]


def script(text: str) -> list[str]:
    """All statements of a text; the last needs no semicolon."""
    statements, rest = split(f"{text}\n;")
    return [*statements, rest] if rest.strip() else statements  # the rest: what is never closed


def values(sql: str, given: Iterable[str]) -> dict[str, Any]:
    """The values of `name=value` texts for a query. Raises InvalidInput.

    A parameter of whole numbers, truth values, arrays, tuples or maps takes JSON; any other takes
    the text as it was typed, so that `0012` stays a name and `0.10` a price.
    """
    kinds: dict[str, list[str]] = {}
    for name, _, kind in _PARAMETER.findall(sql):
        kinds.setdefault(name, []).append(kind)
    found: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise InvalidInput("give --value name=value")
        as_json = bool(kinds.get(name)) and all(map(_AS_JSON.fullmatch, kinds[name]))
        found[name] = _parsed(value) if as_json else value
    return found


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
