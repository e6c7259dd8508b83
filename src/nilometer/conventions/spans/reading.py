"""Reading the table: what a span's attributes say, as properties."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from nilometer.conventions.loose_values import mapping, within
from nilometer.conventions.spans import flat
from nilometer.conventions.spans.plan import Source
from nilometer.conventions.spans.row import INPUT, OUTPUT, PARAMETERS
from nilometer.domain.span import MAX_DEPTH, plain

_HEAVY = frozenset({INPUT, OUTPUT})


def usage_of(counts: Iterable[Source], attributes: Mapping[str, Any]) -> str:
    """The way of counting to read a call in: the one that tells most; "" when none tells any.

    Among equals the first in the table. Buckets of several ways are never mixed.
    """
    told: dict[str, set[str]] = {}
    for source in counts:
        row = source.row
        if row.shape.read(_member(source, attributes)) is not None:
            told.setdefault(row.usage, set()).add(row.target)
    return max(told, key=lambda usage: len(told[usage]), default="")


def read(
    sources: Iterable[Source],
    attributes: Mapping[str, Any],
    given: dict[str, Any],
    *,
    is_call: bool,
    usage: str,
) -> set[str]:
    """Apply the rows, and add to the properties `given` what they do not have yet.

    Returns the attributes that are taken: whose value became one, or that hold content which a
    better source gave already.
    """
    taken = set[str]()
    parameters: dict[str, Any] = {}
    for source in sources:
        row, target = source.row, source.row.target
        if row.calls_only and (not is_call or (row.usage and row.usage != usage)):
            continue
        if target in given:
            if target in _HEAVY:
                taken.update(source.names)
            continue
        whole = not source.pieces and not source.member
        value = row.shape.read(attributes[source.name]) if whole else _value(source, attributes)
        if value is None:
            continue
        if whole:
            taken.add(source.name)
        else:
            taken.update(source.names)
        if source.parameter is not None:
            parameters.setdefault(source.parameter, value)
        elif target == PARAMETERS:
            parameters |= {name: v for name, v in value.items() if name not in parameters}
        else:
            given[target] = value
    if parameters:
        given.setdefault(PARAMETERS, parameters)
    return taken


def rest(names: Iterable[str], attributes: Mapping[str, Any], taken: set[str]) -> dict[str, Any]:
    """The attributes that nothing was made of, as plain JSON under their own names."""
    left: dict[str, Any] = {}
    for name in names:
        if name not in taken:
            value = attributes[name]
            is_plain = type(value) is str and value.isascii()
            left[name] = value if is_plain else plain(value, MAX_DEPTH)
    return left


def _value(source: Source, attributes: Mapping[str, Any]) -> Any:
    row = source.row
    if row.build is None:
        return row.shape.read(_member(source, attributes))
    return row.build(
        flat.nested((path, plain(attributes[name], MAX_DEPTH)) for path, name in source.pieces)
    )


def _member(source: Source, attributes: Mapping[str, Any]) -> Any:
    value = attributes[source.name]
    if not source.member:
        return value
    return within(mapping(value), source.member)
