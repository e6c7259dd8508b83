"""What stands in FROM: each table a subquery, so that no word of a user names a table."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Sequence

from sqlglot import exp

from nilometer.query.sql import keys, moments, properties, quoting
from nilometer.query.sql.expressions import Expressions
from nilometer.query.sql.properties import NAMES, OTHER, Owners
from nilometer.query.sql.refusal import Refusal
from nilometer.query.sql.scope import Scope
from nilometer.query.sql.tables import KEYS, TABLES
from nilometer.query.sql.tree import Node, children, expect_only, part, text_of

_JOIN_WORDS = (
    *("ANY", "ALL", "SEMI", "ANTI", "ASOF", "LEFT", "RIGHT", "FULL", "INNER", "CROSS", "ARRAY"),
)
_JOIN = ("this", "side", "kind", "method", "on", "using", "expressions")


class Sources:
    """Writes FROM and its joins. `query` writes a query that stands in them."""

    def __init__(
        self,
        project_id: int,
        query: Callable[[exp.Query, Scope], str],
        outputs: Callable[[exp.Query, Scope], frozenset[str]],
        expressions: Expressions,
    ) -> None:
        self._project_id = project_id
        self._query = query
        self._outputs = outputs
        self._expressions = expressions

    def beside(self, select: exp.Select, scope: Scope) -> Scope:
        """The scope of what stands beside FROM, and of values in WITH."""
        source = part(select, "from_")
        if source is None:
            return scope
        joins = children(select, "joins")
        tables = [source.this, *(join.this for join in joins if join.args.get("kind") != "ARRAY")]
        named = [(_alias(table), _known(table, scope.ctes)) for table in tables]
        owners = properties.owners(select, named)
        given = [(_alias(table), self._columns(table, scope, owners)) for table in tables]
        return scope.with_tables(given, owners, moments.columns(select.root(), named))

    def _columns(self, node: Node, scope: Scope, owners: Owners) -> frozenset[str]:
        """The columns of a table or a subquery; none where it will be refused anyway."""
        if isinstance(node, exp.Final):
            node = node.this
        if isinstance(node, exp.Subquery):
            return self._outputs(_inner(node), scope.inner())
        if node.name in scope.ctes:
            return scope.cte_columns[node.name]
        if node.name not in TABLES:
            return frozenset()
        table = TABLES[node.name]
        owner = owners.by_alias.get(_alias(node) or "")
        return table.names() | {OTHER, NAMES} if owner and owner.apart else table.names()

    def write(self, select: exp.Select, scope: Scope) -> str:
        """FROM with its joins, in the scope beside it. Raises Refusal."""
        source = part(select, "from_")
        joins = children(select, "joins")
        if source is None:
            if joins:
                raise Refusal("JOIN needs a FROM.", "JOIN")
            return ""
        expect_only(source, "this")
        words = [f"FROM {self._first(source.this, select, scope)}"]
        words += [self._join(join, scope) for join in joins]
        return " ".join(words)

    def _first(self, node: Node, select: exp.Select, scope: Scope) -> str:
        """The first table, of which WHERE may be asked before the others are joined."""
        table = node.this if isinstance(node, exp.Final) else node
        known = isinstance(table, exp.Table) and table.name not in scope.ctes
        if not known or table.name not in TABLES or keys.shadowed(select.root(), KEYS):
            return self._table(node, scope)
        bounds: list[str] = []
        if keys.TIME in TABLES[table.name].keys:
            found = keys.time_bounds(select, _alias(table) or "")
            bounds = [self._bound(each, table.name, scope) for each in found]
        hidden = scope.depth > 0 or not keys.only_compared(select, KEYS)
        return self._table(node, scope, bounds=bounds, hidden=hidden)

    def _bound(self, comparison: Node, table: str, scope: Scope) -> str:
        """A comparison of a table's time with a constant, on the stored column."""
        stored = comparison.copy()
        for column in stored.find_all(exp.Column):
            column.set("table", exp.to_identifier(TABLES[table].source, quoted=True))
        source = TABLES[table].source
        times = frozenset({f"{source}.{keys.TIME}"})
        inside = scope.with_tables([(source, TABLES[table].names())], moments=times)
        return f"({self._expressions.write(stored, inside)})"

    def _table(
        self, node: Node, scope: Scope, *, bounds: Sequence[str] = (), hidden: bool = True
    ) -> str:
        if isinstance(node, exp.Final):
            expect_only(node, "this")
            node = node.this
        if isinstance(node, exp.Subquery):
            return self._subquery(node, scope)
        if not isinstance(node, exp.Table) or not isinstance(node.this, exp.Identifier):
            raise Refusal("Only a table or a subquery may stand in FROM.", text_of(node))
        expect_only(node, "this", "alias")
        if node.name in TABLES and node.name not in scope.ctes:
            owner = scope.owners.by_alias.get(_alias(node) or "")
            sql = TABLES[node.name].fenced(
                self._project_id,
                bounds=bounds,
                hidden=hidden,
                apart=owner is not None and owner.apart,
                with_calls=_mentions(node.root(), TABLES[node.name].names_of_calls()),
            )
        else:
            sql = self._defined(node.name, scope)
        return f"{sql} AS {quoting.identifier(_alias(node) or '')}"

    def _defined(self, name: str, scope: Scope) -> str:
        """A CTE that is visible here."""
        if name in scope.ctes:
            return f"({scope.ctes[name]})"
        like = difflib.get_close_matches(name, [*TABLES, *scope.ctes], n=1)
        hint = f" Did you mean {like[0]}?" if like else f" There are {', '.join(TABLES)}."
        raise Refusal(f"There is no table {name[:60]}.{hint}", name, "unknown_table")

    def _subquery(self, node: exp.Subquery, scope: Scope) -> str:
        expect_only(node, "this", "alias")
        inner = _inner(node)
        alias = _alias(node)
        named = f" AS {quoting.identifier(alias)}" if alias else ""
        return f"({self._query(inner, scope.inner())}){named}"

    def _join(self, join: Node, scope: Scope) -> str:
        expect_only(join, *_JOIN)
        words = [word for key in ("method", "side", "kind") if (word := join.args.get(key))]
        if unknown := [word for word in words if word not in (*_JOIN_WORDS, "OUTER")]:
            raise Refusal("This kind of JOIN is not available.", str(unknown[0]))
        kind = " ".join(word for word in _JOIN_WORDS if word in words)
        if "ARRAY" in words:
            return self._array_join(join, kind, scope)
        if children(join):
            raise Refusal("This kind of JOIN is not available.", "JOIN")
        written = f"{kind} JOIN {self._table(join.this, scope)}".strip()
        return written + self._condition(join, scope)

    def _condition(self, join: Node, scope: Scope) -> str:
        if columns := children(join, "using"):
            return f" USING ({', '.join([quoting.identifier(each.name) for each in columns])})"
        on = part(join, "on")
        return f" ON {self._expressions.write(on, scope)}" if on is not None else ""

    def _array_join(self, join: Node, kind: str, scope: Scope) -> str:
        arrays = [join.this, *children(join)]
        if any(array.find(exp.Query, exp.Subquery) for array in arrays):
            raise Refusal("ARRAY JOIN takes no subquery.", "JOIN")
        return f"{kind} JOIN {self._expressions.list(arrays, scope)}"


def _inner(node: exp.Subquery) -> exp.Query:
    """The query in the brackets."""
    inner: Node = node.this
    while isinstance(inner, exp.Subquery):
        expect_only(inner, "this")
        inner = inner.this
    if not isinstance(inner, exp.Query):
        raise Refusal("Only a table or a subquery may stand in FROM.", text_of(node))
    return inner


def _mentions(query: Node, names: frozenset[str]) -> bool:
    """Whether anything in the whole query has one of these names, or shows all columns."""
    if not names:
        return False
    nodes = query.find_all(exp.Identifier, exp.Star)
    return any(isinstance(each, exp.Star) or each.name in names for each in nodes)


def _known(node: Node, ctes: Collection[str]) -> Node:
    """A table of a FROM; a name in WITH, of which nothing is known here, as a bare query."""
    if isinstance(node, exp.Final):
        node = node.this
    return exp.Subquery() if isinstance(node, exp.Table) and node.name in ctes else node


def _alias(node: Node) -> str | None:
    """The name by which the rest of the query knows a table."""
    if isinstance(node, exp.Final):
        node = node.this
    alias = part(node, "alias")
    if alias is None:
        return node.name if isinstance(node, exp.Table) else None
    expect_only(alias, "this")
    return node.alias or None
