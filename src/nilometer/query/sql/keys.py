"""Columns that the store is sorted or partitioned by, and how a query may use them.

The engine evaluates conditions on such a column over the bounds of whole ranges of rows, before any
row is read and whosever rows they are: `intDiv(1, toYear(timestamp) - 1970)` divided by zero for a
project that has no event of 1970 (seen). So a virtual table hides these columns from it, behind a
function that it cannot see through. What is only compared with constants cannot fail: such bounds
on time are written into the table's own PREWHERE, and a query that does nothing else with them sees
them as they are, which lets the engine read the latest events first.
"""

from __future__ import annotations

from sqlglot import exp

from nilometer.query.sql import functions, grammar
from nilometer.query.sql.tree import Node, children, part

# The column that bounds are taken from.
TIME = "timestamp"
_COMPARISONS = (exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE)
# Functions of constants that give a time.
_TIMES = frozenset(
    {
        *("now", "now64", "today", "yesterday", "toDate", "toDateTime", "toDateTime64"),
        *("parseDateTimeBestEffort", "parseDateTime64BestEffort", "fromUnixTimestamp"),
        *(name for name in functions.FUNCTIONS["Dates and times"] if name.startswith("toStartOf")),
        *(name for name in functions.FUNCTIONS["Dates and times"] if name.startswith("subtract")),
        *(name for name in functions.FUNCTIONS["Dates and times"] if name.startswith("add")),
    }
)


def shadowed(query: Node, keys: frozenset[str]) -> bool:
    """Whether anything in the whole query is given the name of such a column."""
    named = query.find_all(exp.Alias, exp.CTE)
    return any(each.alias in keys for each in named)


def time_bounds(select: exp.Select, table: str) -> list[Node]:
    """The conditions of WHERE that compare this table's time with constants, all joined by AND."""
    where = part(select, "where")
    if where is None or not _keeps_rows_of_first(select):
        return []
    alone = not children(select, "joins")
    return [each for each in _conjuncts(where.this) if _is_bound(each, table, alone=alone)]


def only_compared(select: exp.Select, keys: frozenset[str]) -> bool:
    """Whether the query, of one table and without queries inside it, does nothing with these
    columns but show them, order by them, and compare them with constants."""
    if children(select, "joins") or any(each is not select for each in select.find_all(exp.Query)):
        return False
    derived = frozenset(
        each.alias or str(each.meta.get(grammar.TEXT, ""))
        for each in children(select)
        if not _is_bare(each) and _mentions(each, keys)
    )
    restricted = keys | derived
    where = part(select, "where")
    if where is not None and not all(
        _is_bound(each, None, alone=True) or not _mentions(each, restricted)
        for each in _conjuncts(where.this)
    ):
        return False
    clauses = (part(select, key) for key in ("with_", "having", "qualify", "limit_by"))
    if any(clause is not None and _mentions(clause, restricted) for clause in clauses):
        return False
    order = part(select, "order")
    terms: list[Node] = [each.this for each in children(order)] if order is not None else []
    return all(_is_harmless_order(term, keys, derived) for term in terms)


def _is_harmless_order(term: Node, keys: frozenset[str], derived: frozenset[str]) -> bool:
    """Whether the order is by a column as it is, or by something else altogether; a number stands
    for any column of the result."""
    if isinstance(term, exp.Literal):
        return not derived
    return not _mentions(term, derived) and (_is_bare(term) or not _mentions(term, keys))


def _conjuncts(node: Node) -> list[Node]:
    while isinstance(node, exp.Paren):
        node = node.this
    if isinstance(node, exp.And):
        return [*_conjuncts(node.this), *_conjuncts(node.expression)]
    return [node]


def _keeps_rows_of_first(select: exp.Select) -> bool:
    """Whether every row of the result has a row of the first table: WHERE may then be asked first.
    RIGHT and FULL joins add rows without one."""
    return not any(
        word in ("RIGHT", "FULL")
        for join in children(select, "joins")
        for word in (join.args.get("side"), join.args.get("kind"), join.args.get("method"))
    )


def _is_bound(node: Node, table: str | None, *, alone: bool) -> bool:
    """`timestamp >= constant`, either way round. Beside other tables it must name its own."""
    if not isinstance(node, _COMPARISONS):
        return False
    sides: tuple[Node, Node] = (node.this, node.expression)
    for column, constant in (sides, sides[::-1]):
        if isinstance(column, exp.Column) and column.name == TIME and _is_time(constant):
            owner = column.args.get("table")
            named = owner is not None and owner.name == table
            bare = owner is None and alone
            return not column.args.get("db") and (named or bare or table is None)
    return False


def _is_time(node: Node) -> bool:
    """A text, or a time made of constants alone."""
    if isinstance(node, exp.Literal):
        return node.is_string
    if isinstance(node, exp.Paren):
        return _is_time(node.this)
    if isinstance(node, exp.Add | exp.Sub):
        return _is_time(node.this) and _is_interval(node.expression)
    if not isinstance(node, exp.Anonymous) or functions.canonical(node.name) not in _TIMES:
        return False
    return all(
        isinstance(each, exp.Literal) or _is_time(each) or _is_interval(each)
        for each in children(node)
    )


def _is_interval(node: Node) -> bool:
    if not isinstance(node, exp.Anonymous):
        return False
    is_named = (functions.canonical(node.name) or "").startswith("toInterval")
    return is_named and all(isinstance(each, exp.Literal) for each in children(node))


def _mentions(node: Node, names: frozenset[str]) -> bool:
    return any(each.name in names for each in node.find_all(exp.Identifier))


def _is_bare(node: Node) -> bool:
    return isinstance(node, exp.Column) and isinstance(node.this, exp.Identifier)
