"""Redactors for tests."""

from collections import Counter
from typing import Any

from nilometer.domain.redaction.layout import Layout
from nilometer.domain.redaction.patterns import BUILTINS
from nilometer.domain.redaction.reading import read_rules
from nilometer.domain.redaction.redactor import Redactor

EVERY_PATTERN = list(BUILTINS)


def redactor(*patterns: Any, keys: Any = (), content: str = "keep") -> Redactor:
    rules = read_rules({"patterns": list(patterns), "keys": list(keys), "content": content})
    assert rules is not None
    return Redactor(rules)


def text(of: Redactor, given: str) -> tuple[str, dict[str, int]]:
    """The text, redacted, and the counts."""
    counts: Counter[str] = Counter()
    return of.text(given, counts), dict(counts)


def json_text(of: Redactor, given: str, layout: Layout | None = None) -> tuple[str, dict[str, int]]:
    """The same of a JSON text."""
    counts: Counter[str] = Counter()
    return of.json(given, counts, layout), dict(counts)
