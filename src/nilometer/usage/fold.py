"""From rows to groups: the rules of the aggregation, without any store.

A row is some calls with the values of their dimensions. A group has the calls that have a value of
each of its dimensions: a call without a job is in no group by job, and in the summary.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from nilometer.usage.dimensions import NAMED_IN, has_latency
from nilometer.usage.groups import Group, Groups, Values
from nilometer.usage.query import UsageQuery


class Row(NamedTuple):
    """Some calls: their dimensions ("" for none; those that a row does not tell apart are not in
    it), sums in the order of `groups.FIELDS`, and latencies by bucket."""

    dimensions: Mapping[str, str]
    values: Values
    latencies: Mapping[int, int]


_NO_LATENCIES: Mapping[int, int] = {}


def matches(query: UsageQuery, dimensions: Mapping[str, str]) -> bool:
    """Whether a row is within the query's filters. Its day is the reader's affair."""
    return all(dimensions[name] == value for name, value in query.filters.items())


def summarise(groups: Groups, rows: Iterable[Row]) -> None:
    """Add rows to the summary."""
    for row in rows:
        groups.summary.add(row.values, row.latencies)


def level(groups: Groups, name: str, rows: Iterable[Row]) -> None:
    """Add rows to the groups of a level."""
    found = groups.levels.setdefault(name, {})
    named, latency = NAMED_IN.get(name, ()), has_latency((name,))
    for dimensions, values, latencies in rows:
        key = dimensions[name]
        if not key:
            continue
        group = found.get(key)
        if group is None:
            group = found[key] = Group(names={each: set() for each in named})
        group.add(values, latencies if latency else _NO_LATENCIES)
        for each in named:
            if value := dimensions[each]:
                group.names[each].add(value)


def combine(groups: Groups, names: tuple[str, ...], rows: Iterable[Row]) -> None:
    """Add rows to the groups by a combination of dimensions."""
    latency = has_latency(names)
    for dimensions, values, latencies in rows:
        key = tuple(dimensions[name] for name in names)
        if all(key):
            group = groups.combined.setdefault(key, Group())
            group.add(values, latencies if latency else _NO_LATENCIES)


def fold(query: UsageQuery, rows: Iterable[Row]) -> Groups:
    """The groups of a query from rows that have every dimension and are of its days."""
    within = [row for row in rows if matches(query, row.dimensions)]
    groups = Groups(levels={name: {} for name in query.levels})
    summarise(groups, within)
    for name in query.levels:
        level(groups, name, within)
    if query.group_by:
        combine(groups, query.group_by, within)
    return groups
