"""Usage by any dimension: the server's host of the aggregation contract.

A call counts once, as its best source tells it. What kept days have (`usage_days`) is read from
them; every other question from `calls`: all levels in one pass, and a combination of dimensions,
which may have any number of groups, in a second one, page by page.

Dashboards ask the same again and again. An answer is kept with the marks of the days that it is
of, and given again while they are the same.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from nilometer.clickhouse.errors import StatementTooCostly
from nilometer.clickhouse.store import Store, StoreRejected
from nilometer.query import usage_sql
from nilometer.query.reader import Reader
from nilometer.query.usage_days import Marks, UsageDays
from nilometer.query.usage_sql import CELL_SUMS, GONE, Calls, Rows, key
from nilometer.usage.dimensions import NAMED_IN
from nilometer.usage.groups import Group, Groups, atto
from nilometer.usage.plan import Plan, Source
from nilometer.usage.query import UsageQuery

_KEPT_ANSWERS = 32
_KEPT_GROUPS = 1000


class Usage:
    """Named reads of usage; each within the project of its first argument."""

    def __init__(self, store: Store) -> None:
        self._reader = Reader(store)
        self._days = UsageDays(store)
        self._kept: OrderedDict[str, tuple[Marks, Groups]] = OrderedDict()
        self._keeping = threading.Lock()

    def groups(self, project_id: int, query: UsageQuery) -> Groups:
        """What the query asks for; it is not to be changed. Of a level with more than `MAX_GROUPS`
        groups some are left out, and of the combination all but a page and one more. Raises the
        store's errors."""
        asked = repr((project_id, query))
        # Rows that arrive after it change the marks of the next question, not of this one.
        marks = self._days.marks(project_id, query.start, query.end)
        if not marks.used:
            return Groups(levels={name: {} for name in query.levels})
        with self._keeping:
            known = self._kept.get(asked)
        if known is not None and known[0] == marks:
            return known[1]
        groups = self._of_days(project_id, query, marks)
        if groups is None:
            groups = self.of_calls(project_id, query, marks)
        if _size(groups) <= _KEPT_GROUPS:
            with self._keeping:
                self._kept[asked] = (marks, groups)
                self._kept.move_to_end(asked)
                if len(self._kept) > _KEPT_ANSWERS:
                    self._kept.popitem(last=False)
        return groups

    def of_calls(self, project_id: int, query: UsageQuery, marks: Marks | None = None) -> Groups:
        """As `groups`, from the calls themselves. `marks` narrow down what is read of them."""
        rows = Calls(tuple(marks.early(marks.used)) if marks else ())
        groups = Groups(levels={name: {} for name in query.levels})
        self._add_levels(groups, project_id, query, query.levels, rows)
        if query.group_by:
            self._add_combined(groups, project_id, query, rows)
        return groups

    def _of_days(self, project_id: int, query: UsageQuery, marks: Marks) -> Groups | None:
        """The answer from kept days; None where they have not all of it, or were made anew
        while they were read."""
        plan = Plan.of(query)
        kinds = {source: _kind(source) for source in plan.sources()}
        if not all(kinds.values()):
            return None
        groups = Groups(levels={name: {} for name in query.levels})
        try:
            cells = self._days.cells(project_id, marks, sorted(set(kinds.values())))
            if cells is None:
                return None
            for kind, names in _together(plan, kinds):
                self._add_levels(groups, project_id, query, names, cells[kind])
            if plan.combined is not None:
                self._add_combined(groups, project_id, query, cells[kinds[plan.combined]])
        except StatementTooCostly:
            return None
        except StoreRejected as refused:
            if refused.engine_name != GONE:
                raise
            return None
        return groups

    def _add_levels(
        self,
        groups: Groups,
        project_id: int,
        query: UsageQuery,
        names: Sequence[str],
        rows: Rows,
    ) -> None:
        """Put each row where it belongs; a level's row without a key is in no group."""
        for row in self._reader.rows(project_id, usage_sql.levels(query, names, rows)):
            name = _grouped_by(names, row)
            if name is None:
                groups.summary = _group(row)
            elif value := row[key(name)]:
                group = groups.levels[name][value] = _group(row)
                for each in NAMED_IN.get(name, ()):
                    group.names[each] = {named for named in row[f"named_{each}"] if named}

    def _add_combined(self, groups: Groups, project_id: int, query: UsageQuery, rows: Rows) -> None:
        for row in self._reader.rows(project_id, usage_sql.combined(query, rows)):
            groups.combined[tuple(row[key(name)] for name in query.group_by)] = _group(row)


def _kind(source: Source) -> str:
    """The kind of kept days that is this source; "" where there is none."""
    if source.kind == "directory":
        return source.scope
    return "" if source.scope or source.kind == "single" else source.kind


def _together(plan: Plan, kinds: Mapping[Source, str]) -> list[tuple[str, list[str]]]:
    """The levels that are read at once, by their kind: those of everything, with the summary,
    first. Cells of many days become few where the day does not matter, so it is read apart."""
    found: dict[tuple[str, bool], list[str]] = {(kinds[plan.summary], False): []}
    for name, source in plan.levels.items():
        found.setdefault((kinds[source], name == "day"), []).append(name)
    return [(kind, names) for (kind, _), names in found.items()]


def _size(groups: Groups) -> int:
    return len(groups.combined) + sum(map(len, groups.levels.values()))


def _grouped_by(names: Sequence[str], row: Mapping[str, Any]) -> str | None:
    """The level of a row; None of the summary."""
    mask = row.get("mask", 0)
    grouped = [name for place, name in enumerate(reversed(names)) if not mask >> place & 1]
    return grouped[0] if grouped else None


def _group(row: Mapping[str, Any]) -> Group:
    *counted, entered, left, cost = (row[f"sum_{place}"] for place in range(len(CELL_SUMS)))
    values = [*map(int, counted), int(entered), int(left), int(entered) + int(left), atto(cost)]
    if "latency_0" not in row:
        return Group(values=values)
    measured = row["latency_0"]
    return Group(
        values=values,
        measured=measured,
        percentiles=list(map(int, row["latency_1"])) if measured else [],
    )
