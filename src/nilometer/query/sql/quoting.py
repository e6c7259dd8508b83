"""Names and values as SQL text, by construction."""

from __future__ import annotations

import re

_ESCAPES = str.maketrans(
    {
        "\\": "\\\\",
        "'": "\\'",
        "`": "\\`",
        "\b": "\\b",
        "\f": "\\f",
        "\r": "\\r",
        "\n": "\\n",
        "\t": "\\t",
        "\0": "\\0",
    }
)
_NUMBER = re.compile(r"\d+(?:\.\d*)?(?:[eE][+-]?\d+)?", re.ASCII)


def string(text: str) -> str:
    """A text as a literal."""
    return f"'{text.translate(_ESCAPES)}'"


def identifier(name: str) -> str:
    """A name in backquotes."""
    return f"`{name.translate(_ESCAPES)}`"


def number(text: str) -> str:
    """A number as it was written. Raises ValueError for anything else."""
    if not _NUMBER.fullmatch(text):
        raise ValueError("not a number")
    return text
