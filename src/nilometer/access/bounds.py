"""What names and rules may be; everything that comes from outside passes here."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal

from nilometer.access.tables import NAME_LENGTH
from nilometer.access.types import ALL_SCOPES, KeyKind, Scope
from nilometer.domain.redaction.reading import InvalidRules, read_rules
from nilometer.errors import InvalidInput

MAX_DROPPED_IDS = 1000
MAX_DISTINCT_ID = 1000
"""The longest distinct id that can be dropped, in characters."""
MAX_RETENTION_DAYS = 36500

MAX_ORGANIZATIONS = 1000
"""Of a deployment; those that were deleted do not count."""
MAX_PROJECTS = 2000
"""Of one organization (capture contract, section 6); those given up for deletion do not count."""
MAX_KEYS = 1000
"""Of one project; revoked ones do not count."""

PROJECT_SCOPES = frozenset({Scope.CAPTURE})
"""All that a project key may do."""


def checked_name(name: str) -> str:
    """The name without spaces at its ends. Raises InvalidInput."""
    stripped = name.strip()
    # Printable, so that a name cannot move the cursor of the terminal that lists it.
    if not 1 <= len(stripped) <= NAME_LENGTH or not stripped.isprintable():
        raise InvalidInput(f"give a name of 1 to {NAME_LENGTH} printable characters", attr="name")
    return stripped


def checked_scopes(kind: KeyKind, scopes: Collection[Scope]) -> frozenset[Scope]:
    """The scopes of a new key: a project key captures, a personal key needs one. Raises
    InvalidInput."""
    granted = frozenset(scopes)
    if kind is KeyKind.PROJECT:
        if not granted <= PROJECT_SCOPES:
            raise InvalidInput("a project key captures, nothing else", attr="scopes")
        return PROJECT_SCOPES
    if not granted:
        names = ", ".join(sorted(ALL_SCOPES))
        raise InvalidInput(
            f"say what the personal key may do, with scopes among: {names}", attr="scopes"
        )
    return granted


def checked_ids(distinct_ids: Collection[str]) -> list[str]:
    """The distinct ids to drop, each once, sorted. Raises InvalidInput."""
    kept = sorted(set(distinct_ids))
    if len(kept) > MAX_DROPPED_IDS:
        raise InvalidInput(
            f"at most {MAX_DROPPED_IDS} distinct ids can be dropped", attr="dropped_distinct_ids"
        )
    if not all(1 <= len(distinct_id) <= MAX_DISTINCT_ID for distinct_id in kept):
        raise InvalidInput(
            f"a distinct id has 1 to {MAX_DISTINCT_ID} characters", attr="dropped_distinct_ids"
        )
    return kept


def check_retention(days: int | Literal["default"] | None) -> None:
    """Raise InvalidInput for a retention that no project may have."""
    if isinstance(days, int) and not 1 <= days <= MAX_RETENTION_DAYS:
        raise InvalidInput(
            f"retention is 1 to {MAX_RETENTION_DAYS} days, or the default", attr="retention_days"
        )


def checked_redaction(rules: Mapping[str, Any]) -> dict[str, Any] | None:
    """Redaction rules as they are stored, None where they say nothing. Raises InvalidRules."""
    read = read_rules(rules)
    return None if read is None else read.to_json()


def rule_names(stored: Mapping[str, Any] | None) -> list[str]:
    """The rules' names: what the audit log tells of them. A pattern may show what it hides."""
    try:
        read = None if stored is None else read_rules(stored)
    except InvalidRules:  # of a later release
        return ["unreadable"]
    return [] if read is None else list(read.names)


def check_room(count: int, limit: int, what: str) -> None:
    """Raise InvalidInput when there are as many as there may be."""
    if count >= limit:
        raise InvalidInput(f"there are {limit} {what} already, the most there may be", code="full")
