"""Whose calls these are: job, batch, user and the others, as one value that is never changed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any, Final, Literal, cast

from nilometer.domain.metric_rules import MAX_NAME_CHARS
from nilometer.errors import InvalidInput


class _Keep(Enum):
    KEEP = "keep"

    def __repr__(self) -> str:
        return "KEEP"


KEEP: Final = _Keep.KEEP
"""Says nothing: what the outer context says holds. None says that there is none."""

Kept = Literal[_Keep.KEEP]

NAMES = ("job_id", "batch_id", "user_id", "environment", "developer", "repository")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scopes:
    """What a call belongs to. Tags and metadata add up from the outside in; of everything else
    the innermost value holds."""

    job_id: str | None = None
    batch_id: str | None = None
    user_id: str | None = None
    environment: str | None = None
    developer: str | None = None
    repository: str | None = None
    github_pr: int | None = None
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def within(self, outer: Scopes) -> Scopes:
        """These inside others."""
        return outer.changed({name: getattr(self, name) for name in _ALL if getattr(self, name)})

    def changed(self, given: Mapping[str, Any]) -> Scopes:
        """These with what is given, KEEP left out. Raises InvalidInput for tags that are none and
        TypeError for a name that is no scope. Ids of other types become text."""
        if not given:
            return self
        known = {name: getattr(self, name) for name in _ALL}
        for name, value in given.items():
            if name not in known:
                raise TypeError(f"{name!r} is no scope; there are {', '.join(_ALL)}")
            if value is not KEEP:
                known[name] = _joined(name, known[name], value)
        return Scopes(**known)


def _joined(name: str, outer: Any, value: Any) -> Any:
    if name == "tags":
        return tuple(sorted({*outer, *_tags(value)})) if value else ()
    if name == "metadata":
        return {**outer, **value} if value else {}
    if value is None or name == "github_pr":
        return value
    return bounded(value)


def _tags(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        pairs = cast("Mapping[Any, Any]", value)
        value = [f"{name}:{each}" for name, each in pairs.items()]
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise InvalidInput("tags must be a list of texts, or a mapping of them", attr="tags")
    found = [bounded(tag) for tag in cast("Iterable[Any]", value)]
    return [tag for tag in found if tag]


def clean(text: str) -> str:
    """The text with a replacement for what UTF-8 cannot hold."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def bounded(value: Any) -> str | None:
    """An id as text, None for an empty one. A longer one than a metric holds ends in a digest, so
    that two of them stay two."""
    text = clean(str.__str__(value) if isinstance(value, str) else str(value))
    if len(text) <= MAX_NAME_CHARS:
        return text or None
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return f"{text[: MAX_NAME_CHARS - 17]}#{digest}"


_ALL = tuple(each.name for each in fields(Scopes))
NOTHING = Scopes()
