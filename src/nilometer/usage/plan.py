"""Which sums answer a query: for the summary, each level and the combination, one source.

Both hosts keep the same kinds of sums of a day: of everything, by `BASE` and with the hour, and of
each of the `SCOPES` its values side by side, by `LISTED`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

from nilometer.usage.query import UsageQuery

BASE = ("service", "model", "operation", "environment", "status")
SCOPES = ("user", "job", "batch", "developer", "repository")
LISTED = ("service", "status")
"""What a directory tells apart besides its values."""


class Source(NamedTuple):
    """Where rows come from: sums by `days` or `hours` (of one value of the scope, or of everything
    for ""), the scope's `directory`, or each `single` metric."""

    kind: Literal["days", "hours", "directory", "single"]
    scope: str = ""


SINGLE = Source("single")


class Plan(NamedTuple):
    """The sources of a query's parts."""

    summary: Source
    levels: Mapping[str, Source]
    combined: Source | None

    @classmethod
    def of(cls, query: UsageQuery) -> Plan:
        """The cheapest sources that have what is asked."""
        filters = frozenset(query.filters)
        return cls(
            _source((), filters),
            {name: _source((name,), filters) for name in query.levels},
            _source(query.group_by, filters) if query.group_by else None,
        )

    def kept(self) -> dict[str, str]:
        """The levels that sums of everything or of a directory answer, and the scope of each, ""
        for everything: of a query without filters."""
        return {name: each.scope for name, each in self.levels.items() if each.kind != "single"}

    def sources(self) -> set[Source]:
        """All of them."""
        found = {self.summary, *self.levels.values()}
        return found if self.combined is None else {*found, self.combined}


def _source(names: Iterable[str], filters: frozenset[str]) -> Source:
    """What tells apart all that these levels and filters need."""
    wanted = frozenset(names) | filters
    scopes = wanted.intersection(SCOPES)
    filtered = filters.intersection(SCOPES)
    if len(scopes) > 1:
        return SINGLE
    if scopes == filtered:
        return Source("hours" if "hour" in wanted else "days", next(iter(scopes), ""))
    # A scope's values side by side.
    if wanted <= {*scopes, *LISTED, "day"}:
        return Source("directory", next(iter(scopes)))
    return SINGLE


assert not set(BASE) & set(SCOPES)
