"""How much a whole pack may have compiled: its expressions and patterns, counted while it is read.

Each one is bounded already; this bounds their sum. What is compiled holds the interpreter, so the
count is taken before it is.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final

MAX_EXPRESSIONS: Final = 2000
MAX_PATTERNS: Final = 200
MAX_STEPS: Final = 50_000
"""Of all patterns, as RE2 compiles them."""


@dataclass(slots=True)
class Counted:
    """Of one pack. The same expression twice is compiled once, and counts once."""

    expressions: set[str] = field(default_factory=set[str])
    patterns: int = 0
    steps: int = 0


_COUNTED: ContextVar[Counted | None] = ContextVar("counted", default=None)


@contextmanager
def counting() -> Generator[None]:
    """Count what this thread compiles from here on as of one pack."""
    token = _COUNTED.set(Counted())
    try:
        yield
    finally:
        _COUNTED.reset(token)


def problem_of(expression: str, patterns: int) -> str | None:
    """Why this one, with so many patterns, may not be compiled besides those before it;
    None where it may, or where nothing is counted."""
    counted = _COUNTED.get()
    if counted is None or expression in counted.expressions:
        return None
    if len(counted.expressions) >= MAX_EXPRESSIONS:
        return f"a pack takes at most {MAX_EXPRESSIONS:,} expressions"
    if patterns and counted.patterns + patterns > MAX_PATTERNS:
        return f"a pack takes at most {MAX_PATTERNS} patterns"
    if patterns and counted.steps >= MAX_STEPS:
        return f"the patterns of the pack are too large together: {MAX_STEPS:,} steps are taken"
    return None


def count(expression: str, patterns: int, steps: int) -> None:
    """This expression was compiled, or tried: with so many patterns, of so many steps together."""
    counted = _COUNTED.get()
    if counted is not None and expression not in counted.expressions:
        counted.expressions.add(expression)
        counted.patterns += patterns
        counted.steps += steps
