"""How a log record says what was redacted in it: counts by rule, never a value.

A member of the record's first line, which is there only where something was: a reader of before
passes it over.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

Marks = Mapping[int, Mapping[str, int]]
"""For events of a record, by their place in it: how often each rule was applied."""

_MEMBER = "redacted"


def redaction_marks(marks: Marks) -> dict[str, Any]:
    """The member for a record's first line, none where nothing was redacted."""
    told = {str(place): dict(counts) for place, counts in marks.items() if counts}
    return {_MEMBER: told} if told else {}


def redacted_of(head: Mapping[str, Any]) -> dict[int, dict[str, int]]:
    """The inverse. Raises TypeError or ValueError for what `redaction_marks` does not write."""
    told = head.get(_MEMBER)
    if told is None:
        return {}
    if not isinstance(told, dict):
        raise TypeError("the counts of redaction are another JSON value")
    return {int(place): _counts(counts) for place, counts in cast("dict[str, Any]", told).items()}


def _counts(told: Any) -> dict[str, int]:
    if not isinstance(told, dict):
        raise TypeError("the counts of an event are another JSON value")
    return {rule: int(count) for rule, count in cast("dict[str, Any]", told).items()}
