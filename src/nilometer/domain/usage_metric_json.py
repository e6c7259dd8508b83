"""The JSON form of an AIUsageMetric, version 1: exact both ways.

Members have the fields' names; absent is None or the default. Amounts and units are decimal text,
`timestamp` is ISO 8601 in UTC, `usage` an object with `vector` (its buckets that are not zero).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from operator import attrgetter
from typing import Any, cast

from nilometer.domain.usage import INPUT_BUCKETS, OUTPUT_BUCKETS, TokenVector, Usage
from nilometer.domain.usage_metric import SCHEMA_VERSION, AIUsageMetric
from nilometer.errors import InvalidInput

_FIELDS = tuple(each.name for each in fields(AIUsageMetric))
_values_of = attrgetter(*_FIELDS)
_BUCKETS = (*INPUT_BUCKETS, *OUTPUT_BUCKETS)


def dumps(metric: AIUsageMetric) -> str:
    """One line of ASCII."""
    return json.dumps(to_dict(metric), separators=(",", ":"), allow_nan=False)


def loads(text: str | bytes) -> AIUsageMetric:
    """The metric of `dumps`. Raises InvalidInput."""
    try:
        members = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"the metric is not valid JSON: {error}", code="invalid_json") from None
    if not isinstance(members, dict):
        raise InvalidInput("the metric is not a JSON object", code="invalid_json")
    return from_dict(cast("dict[str, Any]", members))


def to_dict(metric: AIUsageMetric) -> dict[str, Any]:
    """The members, as JSON values."""
    members: dict[str, Any] = {"schema_version": SCHEMA_VERSION}
    for (name, empty, write), value in zip(_WRITTEN, _values_of(metric), strict=True):
        if value is not None and value != empty:
            members[name] = value if write is None else write(value)
    return members


def from_dict(members: Mapping[str, Any]) -> AIUsageMetric:
    """The metric. Raises InvalidInput."""
    version = members.get("schema_version")
    if type(version) is not int or not 1 <= version <= SCHEMA_VERSION:
        raise InvalidInput(
            f"schema_version is {version!r}; this reader knows 1 to {SCHEMA_VERSION}",
            code="unknown_schema_version",
            attr="schema_version",
        )
    found = {name: members[name] for name in _FIELDS if members.get(name) is not None}
    for name, read in _READERS.items():
        if name in found:
            found[name] = _read(name, read, found[name])
    missing = [name for name in ("service", "model", "operation", "timestamp") if name not in found]
    if missing:
        raise InvalidInput(f"the metric has no {missing[0]}", attr=missing[0])
    return AIUsageMetric(**found)


def _read(name: str, read: Callable[[Any], Any], value: Any) -> Any:
    try:
        return read(value)
    except (ValueError, TypeError, AttributeError, InvalidOperation):
        raise InvalidInput(f"{name} cannot be read", attr=name) from None


def _time_text(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _amounts(amounts: Mapping[str, Decimal]) -> dict[str, str]:
    return {name: str(amount) for name, amount in amounts.items()}


def _read_amount(text: Any) -> Decimal:
    if not isinstance(text, str):
        raise TypeError("an amount is decimal text: a JSON number is not exact everywhere")
    return Decimal(text)


def _read_amounts(texts: Mapping[str, Any]) -> dict[str, Decimal]:
    return {name: _read_amount(text) for name, text in texts.items()}


def _usage(usage: Usage) -> dict[str, Any]:
    vector = usage.vector
    members: dict[str, Any] = {"convention": usage.convention}
    if vector is not None:
        counts = zip(_BUCKETS, vector.counts, strict=True)
        members["vector"] = {bucket: count for bucket, count in counts if count}
    if usage.reason:
        members["reason"] = usage.reason
    if usage.units:
        members["units"] = _amounts(usage.units)
    if usage.raw:
        members["raw"] = dict(usage.raw)
    return members


def _read_usage(members: Mapping[str, Any]) -> Usage:
    counts = members.get("vector")
    return Usage(
        vector=None if counts is None else TokenVector(**counts),
        convention=str(members["convention"]) if "convention" in members else "",
        reason=str(members.get("reason", "")),
        units=_read_amounts(members.get("units", {})),
        raw=members.get("raw", {}),
    )


_WRITERS: Mapping[str, Callable[[Any], Any]] = {
    "timestamp": _time_text,
    "usage": _usage,
    "cost_usd": str,
    "cost_components": _amounts,
    "stated_cost_usd": str,
    "reported_cost_usd": str,
    "price_as_of": date.isoformat,
    "tags": list,
    "metadata": dict,
}
_READERS: Mapping[str, Callable[[Any], Any]] = {
    "timestamp": datetime.fromisoformat,
    "usage": _read_usage,
    "cost_usd": _read_amount,
    "cost_components": _read_amounts,
    "stated_cost_usd": _read_amount,
    "reported_cost_usd": _read_amount,
    "price_as_of": date.fromisoformat,
}
_NOTHING: Mapping[str, Any] = {}
_WRITTEN: tuple[tuple[str, Any, Callable[[Any], Any] | None], ...] = tuple(
    (each.name, _NOTHING if each.default is MISSING else each.default, _WRITERS.get(each.name))
    for each in fields(AIUsageMetric)
)
"""Each field, its value that is not written, and what writes another one."""
