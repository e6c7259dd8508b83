"""The types that a query may name, written anew from their parts.

Not among them: AggregateFunction (its states are bytes that the engine trusts), Enum and the
dynamic types.
"""

from __future__ import annotations

import re

from nilometer.query.sql import quoting
from nilometer.query.sql.refusal import Refusal

_PLAIN = (
    "Int8 Int16 Int32 Int64 Int128 Int256 UInt8 UInt16 UInt32 UInt64 UInt128 UInt256 Float32 "
    "Float64 String Bool UUID Date Date32 DateTime IPv4 IPv6"
)
_WITHOUT_ARGUMENTS = frozenset(_PLAIN.split())
_OF_TYPES = {"Nullable": 1, "LowCardinality": 1, "Array": 1, "Map": 2, "Tuple": 64}
_VALUED = "Decimal Decimal32 Decimal64 Decimal128 Decimal256 FixedString DateTime DateTime64"
_OF_VALUES = frozenset(_VALUED.split())
# Standard SQL's names, as the engine takes them (`system.data_type_families`).
_STANDARD: dict[str, str] = {
    name: kind
    for kind, names in {
        "Int8": "tinyint",
        "Int16": "smallint",
        "Int32": "int integer mediumint",
        "Int64": "bigint",
        "Float32": "float real",
        "Float64": "double",
        "String": "varchar char text",
        "Bool": "boolean",
        "Decimal": "numeric dec",
        "DateTime": "timestamp",
    }.items()
    for name in names.split()
}
_NAMES = _STANDARD | {name.lower(): name for name in (*_WITHOUT_ARGUMENTS, *_OF_TYPES, *_OF_VALUES)}
# Two words, and a length that means nothing.
_SPELLED = (
    (re.compile(r"\bdouble\s+precision\b", re.IGNORECASE), "double"),
    (re.compile(r"\b(varchar|char)\s*\(\s*\d{1,9}\s*\)", re.IGNORECASE), r"\1"),
)
# What stands in quotes is a time zone: see `zones`.
_TOKEN = re.compile(
    r"\s*([A-Za-z_]\w*|\d{1,3}|'[A-Za-z][\w+-]{0,40}(?:/[\w+-]{1,40}){0,2}'|[(),])", re.ASCII
)
_DEEPEST = 8
_LONGEST = 1000


def parse(text: str) -> str:
    """The type in its canonical form. Raises Refusal."""
    spelled = text[: _LONGEST + 1]
    for pattern, plain in _SPELLED:
        spelled = pattern.sub(plain, spelled)
    tokens = _tokens(spelled)
    parser = _Types(tokens)
    written = parser.type(0)
    if parser.peek() is not None:
        raise _refusal(text)
    return written


class _Types:
    """A recursive descent over the tokens of one type."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._text = "".join(tokens)
        self._at = 0

    def peek(self, ahead: int = 0) -> str | None:
        """A token that is still to be read."""
        at = self._at + ahead
        return self._tokens[at] if at < len(self._tokens) else None

    def type(self, depth: int) -> str:
        """The type that begins here."""
        name = _NAMES.get((self._next() or "").lower())
        if name is None or depth > _DEEPEST:
            raise _refusal(self._text)
        if self.peek() != "(":
            if name in _WITHOUT_ARGUMENTS:
                return name
            raise _refusal(self._text)
        self._next()
        arguments = [self._argument(name, depth)]
        while self._next() == ",":
            arguments.append(self._argument(name, depth))
        if self._tokens[self._at - 1] != ")" or len(arguments) > _OF_TYPES.get(name, 2):
            raise _refusal(self._text)
        return f"{name}({', '.join(arguments)})"

    def _argument(self, name: str, depth: int) -> str:
        if name not in _OF_TYPES:
            value = self._next() or ""
            if name in _OF_VALUES and not value[:1].isalpha() and value not in "(),":
                return value
            raise _refusal(self._text)
        following = self.peek(1) or ""
        if name == "Tuple" and following[:1].isalpha():
            element = self._next() or ""
            return f"{quoting.identifier(element)} {self.type(depth + 1)}"
        return self.type(depth + 1)

    def _next(self) -> str | None:
        token = self.peek()
        self._at += 1
        return token


def _tokens(text: str) -> list[str]:
    tokens: list[str] = []
    at = 0
    while at < len(text.rstrip()):
        match = _TOKEN.match(text, at)
        if match is None or len(text) > _LONGEST:
            raise _refusal(text)
        tokens.append(match[1])
        at = match.end()
    return tokens


def _refusal(text: str) -> Refusal:
    return Refusal(
        "This type cannot be used; docs/sql.md lists those that can.",
        (re.match(r"\w+", text) or [None])[0],
    )
