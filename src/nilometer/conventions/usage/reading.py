"""Reading one object by one layout: the whole of most adapters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from nilometer.conventions.usage.algebra import solve
from nilometer.conventions.usage.counts import Counts, Unusable, read_counts, read_units
from nilometer.conventions.usage.layout import CACHE_NAMES, Beside, Layout
from nilometer.domain.usage import TokenVector, Usage

Adapter = Callable[[Mapping[str, Any]], Usage]
More = Callable[[Mapping[str, Any], Counts], None]
"""Adds the counts that a layout cannot say; may raise Unusable."""


def by_layout(layout: Layout, *, embedding: bool = False) -> Adapter:
    """An adapter that is nothing but its layout."""
    return lambda raw: read_by(layout, raw, embedding=embedding)


def read_by(
    layout: Layout,
    raw: Mapping[str, Any],
    *,
    more: More | None = None,
    beside: Beside | None = None,
    or_beside: tuple[Beside, ...] | None = None,
    embedding: bool = False,
) -> Usage:
    """The usage of an object in a layout; never raises.

    `beside` and `or_beside` replace the layout's own where they depend on the object. A layout
    without token counts gives a vector of zeros: such a call is billed by its units alone.
    """
    try:
        units = read_units(layout, raw)
    except Unusable as problem:
        return _unusable(layout, raw, problem.reason)
    try:
        counts = read_counts(layout, raw)
        if more is not None:
            more(raw, counts)
        vector = (
            TokenVector()
            if units and not layout.counts
            else solve(
                counts,
                layout.beside if beside is None else beside,
                layout.or_beside if or_beside is None else or_beside,
                embedding=embedding,
            )
        )
        if not layout.strange.isdisjoint(raw):
            _check_strange(layout, raw, vector)
    except Unusable as problem:
        return Usage(
            vector=None,
            convention=layout.convention,
            reason=problem.reason,
            units=units,
            raw=dict(raw),
        )
    return Usage(vector=vector, convention=layout.convention, units=units, raw=dict(raw))


def _check_strange(layout: Layout, raw: Mapping[str, Any], vector: TokenVector) -> None:
    """Tokens of a cache that the convention has no name for do not vanish from a bill, unless they
    only repeat what it has told. Raises Unusable."""
    told = {
        "cache_read": vector.cache_read + vector.audio_cache_read,
        "cache_write": vector.cache_write_5m + vector.cache_write_1h,
    }
    for name in sorted(layout.strange.intersection(raw)):
        number = raw[name]
        if type(number) is int and number not in (0, told[CACHE_NAMES[name]]):
            raise Unusable(f"unknown_count:{name}")


def _unusable(layout: Layout, raw: Mapping[str, Any], reason: str) -> Usage:
    return Usage(vector=None, convention=layout.convention, reason=reason, raw=dict(raw))
