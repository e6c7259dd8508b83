"""Names and values inside a statement's text, where nothing can be bound."""

from __future__ import annotations

import re

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


def identifier(name: str) -> str:
    """The name of a table or setting. Raises ValueError for what is no name."""
    if not _IDENTIFIER.fullmatch(name):
        raise ValueError(f"{name!r} is not a table, column or setting name")
    return name


def literal(value: object) -> str:
    """A value as a text in quotes."""
    escaped = str(value).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
