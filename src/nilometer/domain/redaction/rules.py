"""A project's redaction rules: the nouns. Nothing here needs more than the standard library."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

KEY_PREFIX = "key:"
"""What stands before a key name in the name of its rule: no pattern's name has a colon."""
CONTENT = "content"
"""The rule that counts what `Content.NONE` left out."""


class Content(StrEnum):
    """Whether prompts, answers and everything else that may hold content is kept at all."""

    KEEP = "keep"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class CustomPattern:
    """A pattern of a project's own, in RE2's syntax."""

    name: str
    regex: str


@dataclass(frozen=True, slots=True)
class RedactionRules:
    """What a project keeps out of its log, blobs and rows.

    `patterns` are names of built-in patterns, `custom` the project's own, `keys` names whose values
    are never kept, in whatever case they come. `readable` is False for rules that this release
    cannot read: it then keeps nothing of the project at all.
    """

    patterns: tuple[str, ...] = ()
    custom: tuple[CustomPattern, ...] = ()
    keys: tuple[str, ...] = ()
    content: Content = Content.KEEP
    readable: bool = True

    @property
    def names(self) -> tuple[str, ...]:
        """The rules by the names that rows and replacements have: without any pattern's text."""
        own = tuple(pattern.name for pattern in self.custom)
        content = (CONTENT,) if self.content is Content.NONE else ()
        return (*self.patterns, *own, *(f"{KEY_PREFIX}{key}" for key in self.keys), *content)

    def to_json(self) -> dict[str, Any]:
        """The rules as they are set (`reading.read_rules`)."""
        own = [{"name": pattern.name, "regex": pattern.regex} for pattern in self.custom]
        return {
            "patterns": [*self.patterns, *own],
            "keys": list(self.keys),
            "content": self.content.value,
        }


UNREADABLE = RedactionRules(readable=False)
"""Stands for rules that cannot be read."""


def replacement(rule: str) -> str:
    """What stands in the place of what a rule matched."""
    return f"[redacted:{rule}]"
