"""Overrides from a file: TOML or JSON, named by `NILOMETER_PRICES_FILE`.

[[override]]
id = "gpt-4o-2026"
provider = "azure"
model = "chat-production"
effective_from = 2026-01-01
[override.per_million_tokens]
uncached_input = "2.10"
text_output = "8.40"
"""

from __future__ import annotations

import inspect
import json
import logging
import tomllib
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any, cast

from nilometer.errors import ConfigurationError, InvalidInput
from nilometer.pricing.overrides import Override, Scope, check_overlaps, made
from nilometer.pricing.resolving import Resolved, resolve

_LOG = logging.getLogger(__name__)
_MEMBERS = frozenset(inspect.signature(made).parameters) - {"scope"}
_NEEDED = frozenset({"id", "provider", "model", "effective_from"})


def load(path: Path) -> list[Override]:
    """The overrides of a file. Raises ConfigurationError, which names the entry and what to change.

    A file whose name ends in `.json` is JSON with a list `override`; every other is TOML. An alias
    to what neither the book nor the file prices is told in the log and no error: a project's own
    override may price it, and a newer book must not keep a server from starting.
    """
    found = read(path)
    tell_of_unknown_targets(found)
    return found


def read(path: Path) -> list[Override]:
    """The same, without the book, which takes a second to load: nothing is told of aliases."""
    try:
        found = [_entry(number, each) for number, each in enumerate(_read(path), 1)]
        _check_ids(found)
        check_overlaps(found)
    except OSError as error:
        raise ConfigurationError(f"the prices file cannot be read: {error.strerror}") from None
    except (InvalidInput, ValueError) as error:
        raise ConfigurationError(f"the prices file {path.name} is wrong: {error}") from None
    return found


def moment(value: object, attr: str) -> datetime:
    """An aware moment from a date (its midnight in UTC), a datetime or ISO text of either.

    Raises InvalidInput.
    """
    if isinstance(value, str):
        try:
            value = date.fromisoformat(value) if len(value) == len("2026-01-01") else _parsed(value)
        except ValueError:
            raise InvalidInput(
                f"{attr} must be a date or a time with a zone, such as 2026-01-01 or "
                "2026-01-01T00:00:00Z.",
                attr=attr,
            ) from None
    if isinstance(value, datetime):
        return value
    if isinstance(value, date):
        return datetime.combine(value, time(), UTC)
    raise InvalidInput(f"{attr} must be a date or a time with a zone.", attr=attr)


def _parsed(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _read(path: Path) -> list[Any]:
    text = path.read_text("utf-8")
    content = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    if not isinstance(content, dict):
        raise InvalidInput("the file must hold a table with a list `override`.")
    unknown = sorted(set(cast("dict[str, Any]", content)) - {"override"})
    if unknown:
        raise InvalidInput(f"{unknown[0]} is not known here; entries begin with [[override]].")
    entries = cast("dict[str, Any]", content).get("override", [])
    if not isinstance(entries, list):
        raise InvalidInput("override must be a list of tables: [[override]].")
    return cast("list[Any]", entries)


def _entry(number: int, entry: object) -> Override:
    if not isinstance(entry, Mapping):
        raise InvalidInput(f"entry {number} must be a table.")
    members = dict(cast("Mapping[str, Any]", entry))
    name = members.get("id", f"number {number}")
    try:
        _check_members(members)
        for attr in ("effective_from", "effective_to"):
            if attr in members:
                members[attr] = moment(members[attr], attr)
        return made(**members, scope=Scope.FILE)
    except InvalidInput as error:
        raise InvalidInput(f"entry {name}: {error.detail}", attr=error.attr) from None


def _check_members(members: Mapping[str, Any]) -> None:
    for attr in sorted(set(members) - _MEMBERS):
        raise InvalidInput(f"{attr} is not known; use {', '.join(sorted(_MEMBERS))}.", attr=attr)
    for attr in sorted(_NEEDED - set(members)):
        raise InvalidInput(f"{attr} is missing.", attr=attr)
    for attr, value in members.items():
        wanted = _wanted(attr)
        if wanted is not None and (not isinstance(value, wanted) or isinstance(value, bool)):
            raise InvalidInput(f"{attr} must be {_TOLD[wanted]}.", attr=attr)


_TOLD: Mapping[type, str] = {
    Mapping: "a table",
    int: "a project's number",
    str: "text",
}


def _wanted(attr: str) -> type | None:
    if attr in ("per_million_tokens", "per_unit"):
        return Mapping
    if attr == "project_id":
        return int
    return None if attr.startswith("effective_") else str


def tell_of_unknown_targets(entries: list[Override]) -> None:
    """Say in the log which aliases nothing prices."""
    own = {(entry.provider, entry.model) for entry in entries if entry.alias is None}
    for entry in entries:
        if entry.alias is None or entry.alias in own:
            continue
        if not isinstance(resolve(*entry.alias), Resolved):
            _LOG.warning(
                "the prices file's entry %s is an alias to %s, which the price book does not have: "
                "its calls will be unpriced",
                entry.id,
                "/".join(entry.alias),
            )


def _check_ids(entries: list[Override]) -> None:
    seen: set[str] = set()
    for entry in entries:
        if entry.id in seen:
            raise InvalidInput(f"two entries have the id {entry.id}; give each its own.", attr="id")
        seen.add(entry.id)
