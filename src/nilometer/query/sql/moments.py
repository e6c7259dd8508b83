"""Texts that are compared with a time: ISO 8601, as the API prints it, in the engine's own form.

The engine reads `2025-07-01T12:00:00Z` where it compares row by row, but not where it looks a time
up in an index, nor right of IN. So a text beside a column that is a time for certain is written as
`2025-07-01 12:00:00`, in UTC.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

from sqlglot import exp

from nilometer.query.sql.tables import MICROS, TABLES
from nilometer.query.sql.tree import Node

_ISO = re.compile(
    r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d)(:\d\d)?(\.\d{1,9})?(Z|[+-]\d\d:\d\d)?", re.ASCII
)
NAMES = frozenset(
    column.name for table in TABLES.values() for column in table.columns if column.type == MICROS
)


def columns(query: Node, sources: Sequence[tuple[str | None, Node]]) -> frozenset[str]:
    """Which names are times for certain, `name` and `alias.name`, beside a FROM of these tables and
    subqueries, by alias. None where anything in the whole query is given the name of one."""
    if any(each.alias in NAMES for each in query.find_all(exp.Alias, exp.CTE)):
        return frozenset()
    taken = Counter(alias for alias, _ in sources)
    tables = [(alias, _table(node)) for alias, node in sources]
    dotted = frozenset(
        f"{alias}.{name}"
        for alias, table in tables
        if table is not None and taken[alias] == 1
        for name in NAMES & TABLES[table].names()
    )
    if len(sources) != 1 or tables[0][1] is None:
        return dotted
    return dotted | (NAMES & TABLES[tables[0][1]].names())


def name_of(node: Node) -> str | None:
    """A column's name as `columns` gives it."""
    if not isinstance(node, exp.Column) or node.args.get("db"):
        return None
    owner = node.args.get("table")
    return f"{owner.name}.{node.name}" if owner is not None else node.name


def literal(node: Node) -> Node:
    """The text of a time in the engine's form; anything else as it is."""
    if not isinstance(node, exp.Literal) or not node.is_string:
        return node
    match = _ISO.fullmatch(node.name)
    if match is None:
        return node
    date, clock, seconds, fraction, offset = match.groups(default="")
    try:
        moment = datetime.fromisoformat(f"{date} {clock}{seconds}{offset.replace('Z', '+00:00')}")
        if offset:
            moment = moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return node
    return exp.Literal.string(f"{moment:%Y-%m-%d %H:%M:%S}{fraction}")


def _table(node: Node) -> str | None:
    """The virtual table that a node of FROM names."""
    if isinstance(node, exp.Final):
        node = node.this
    return node.name if isinstance(node, exp.Table) and node.name in TABLES else None
