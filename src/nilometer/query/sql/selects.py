"""Queries, written anew: SELECTs, their tables, and what joins and follows them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from sqlglot import exp

from nilometer.query.sql import names, paths, quoting
from nilometer.query.sql.expressions import Expressions
from nilometer.query.sql.parameters import Parameters
from nilometer.query.sql.refusal import Refusal
from nilometer.query.sql.scope import Scope
from nilometer.query.sql.sources import Sources
from nilometer.query.sql.tree import Node, children, expect_only, part, text_of

_SELECT = (
    *("with_", "expressions", "distinct", "from_", "joins", "where", "group", "having", "qualify"),
    *("windows", "order", "limit_by", "limit", "offset"),
)
_SET_OPERATIONS: Mapping[type[Node], str] = {
    exp.Union: "UNION",
    exp.Except: "EXCEPT",
    exp.Intersect: "INTERSECT",
}
_DEEPEST = 24
_MOST_CTES = 64
_LONGEST = 250_000
# A value in WITH, and the scope of its place there.
_Scalar: TypeAlias = tuple[exp.CTE, Scope]
_COUNT = re.compile(r"\d{1,18}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Rows:
    """How many rows a request may have: `default` when the query has no LIMIT, never above `most`.

    `extra` are asked for besides, so that the reader of an answer knows whether there are more.
    """

    default: int
    most: int
    extra: int = 0


@dataclass(frozen=True, slots=True)
class Compiled:
    """A query that may run: its SQL, the parameters to bind, and the rows that it is for.
    `renamed` are columns of its tables whose name it gives to an expression of its own."""

    sql: str
    parameters: Mapping[str, Any]
    limit: int
    offset: int
    renamed: frozenset[str] = frozenset()


def compiled(query: exp.Query, project_id: int, values: Mapping[str, Any], rows: Rows) -> Compiled:
    """The query within one project. Raises Refusal."""
    parameters = Parameters(values)
    try:
        return Queries(project_id, parameters).outermost(query, rows)
    except RecursionError:
        raise Refusal("The query is nested too deeply.") from None


class Queries:
    """Writes the queries of one request."""

    def __init__(self, project_id: int, parameters: Parameters) -> None:
        self._parameters = parameters
        self._expressions = Expressions(self.write, parameters)
        self._sources = Sources(project_id, self.write, self.outputs, self._expressions)
        # What is known of each query, by its node: all of it is asked when its columns are.
        self._opened: dict[int, Scope] = {}
        self._renamed: set[str] = set()

    def outermost(self, given: exp.Query, rows: Rows) -> Compiled:
        """The whole query, with its LIMIT replaced."""
        query = _query(given)
        limit: int | None = None
        offset = 0
        if isinstance(query, exp.Select):
            limit, offset = self._rows(query, "limit"), self._rows(query, "offset") or 0
            query.set("limit", None)
            query.set("offset", None)
            sql = self.write(query, Scope())
        else:
            sql = f"SELECT * FROM ({self.write(query, Scope())})"  # noqa: S608  (written anew)
        asked = min(rows.default if limit is None else limit, rows.most)
        sql = f"{sql} LIMIT {asked + rows.extra:d} OFFSET {offset:d}"
        return Compiled(sql, self._parameters.used, asked, offset, frozenset(self._renamed))

    def write(self, given: exp.Query, scope: Scope) -> str:
        """A query as SQL. Raises Refusal."""
        query = _query(given)
        if scope.depth > _DEEPEST:
            raise Refusal("The query is nested too deeply.")
        if isinstance(query, exp.Select):
            sql = self._select(query, scope)
        elif type(query) in _SET_OPERATIONS:
            sql = self._set_operation(query, scope)
        else:
            raise Refusal("Only a SELECT may stand here.", text_of(query))
        if len(sql) > _LONGEST:
            raise Refusal("The query is too large, with its CTEs written out where they are used.")
        return sql

    def outputs(self, given: exp.Query, scope: Scope) -> frozenset[str]:
        """The names of the columns that a query gives."""
        query = _query(given)
        if isinstance(query, exp.Select):
            inside = self._open(query, scope)
            columns = (self._shown(query, each, inside) for each in children(query))
            return frozenset[str]().union(*columns)
        if type(query) not in _SET_OPERATIONS:
            raise Refusal("Only a SELECT may stand here.", text_of(query))
        return self.outputs(query.this, self._branch(query, scope))

    def _shown(self, select: exp.Select, node: Node, scope: Scope) -> frozenset[str]:
        if names.star(node) is not None:
            return names.starred(select, node, scope)
        name = _name(node, scope)
        return frozenset({name}) if name else names.of_column(select, node)

    def _open(self, select: exp.Select, scope: Scope) -> Scope:
        """The scope inside a SELECT: its CTEs, its tables, its own names, its values in WITH."""
        if id(select) not in self._opened:
            self._opened[id(select)] = self._inside(select, scope)
        return self._opened[id(select)]

    def _inside(self, select: exp.Select, scope: Scope) -> Scope:
        expect_only(select, *_SELECT)
        if scope.depth > _DEEPEST:
            raise Refusal("The query is nested too deeply.")
        below, scalars = self._with(select, scope)
        within = self._sources.beside(select, below)
        self._renamed |= names.renamed(select) & within.from_columns
        given = {name: each for each in children(select) if (name := _name(each, within))}
        own = names.certain(select, given | {each.alias: each.this for each, _ in scalars})
        known = names.aliases(select) | given.keys()
        within = within.with_names(known | names.arrays(select), own | names.arrays(select))
        return self._scalars(within, scalars)

    def _select(self, select: exp.Select, scope: Scope) -> str:
        scope = self._open(select, scope)
        source = self._sources.write(select, scope)
        clauses = [
            f"WITH {', '.join(scope.scalars)}" if scope.scalars else "",
            self._projections(select, scope),
            source,
            self._condition(select, "where", "WHERE", scope),
            self._group(select, scope),
            self._condition(select, "having", "HAVING", scope),
            self._windows(select, scope),
            self._condition(select, "qualify", "QUALIFY", scope),
            self._order(select, scope),
            self._limit_by(select, scope),
            self._limit(select),
        ]
        return " ".join(filter(None, clauses))

    def _set_operation(self, query: Node, scope: Scope) -> str:
        expect_only(query, "with_", "this", "expression", "distinct")
        word = _SET_OPERATIONS[type(query)]
        for side in (query.this, query.expression):
            if type(side) in _SET_OPERATIONS and word != _SET_OPERATIONS[type(side)]:
                raise Refusal("Put brackets around what UNION, EXCEPT and INTERSECT join.", word)
        distinct = query.args.get("distinct")
        if isinstance(query, exp.Union):
            word = f"{word} {'DISTINCT' if distinct else 'ALL'}"
        elif distinct:
            word = f"{word} DISTINCT"
        branch = self._branch(query, scope)
        left, right = self.write(query.this, branch), self.write(query.expression, branch)
        return f"({left}) {word} ({right})"

    def _branch(self, query: Node, scope: Scope) -> Scope:
        """The scope of the parts of a set operation."""
        if id(query) not in self._opened:
            below = self._scalars(*self._with(query, scope))
            self._opened[id(query)] = replace(below, depth=scope.depth + 1)
        return self._opened[id(query)]

    def _with(self, query: Node, scope: Scope) -> tuple[Scope, list[_Scalar]]:
        """The scope below WITH, each definition of which sees those before it; and the values in
        it, which may use the tables beside it, each with the CTEs before it."""
        definitions = part(query, "with_")
        scalars: list[_Scalar] = []
        if definitions is None:
            return scope, scalars
        expect_only(definitions, "expressions", "recursive")
        expect_only(definitions, "expressions")
        for each in children(definitions):
            if len(scope.ctes) + len(scalars) >= _MOST_CTES:
                raise Refusal(f"A query has at most {_MOST_CTES} common table expressions.", "WITH")
            cte = _cte(each)
            inner: Node = cte.this
            if cte.args.get("scalar") or not isinstance(inner, exp.Query | exp.Subquery):
                scalars.append((cte, scope))
                scope = scope.with_names(frozenset({cte.alias}))
                continue
            sql = self.write(_query(inner), scope.inner())
            scope = scope.with_cte(cte.alias, sql, self.outputs(_query(inner), scope.inner()))
        return scope, scalars

    def _scalars(self, scope: Scope, scalars: list[_Scalar]) -> Scope:
        """This scope with the values in its WITH."""
        for cte, before in scalars:
            seen = replace(scope, ctes=before.ctes, cte_columns=before.cte_columns)
            written = self._expressions.write(cte.this, seen)
            scope = scope.with_scalar(f"{written} AS {quoting.identifier(cte.alias)}")
        return scope

    def _projections(self, select: exp.Select, scope: Scope) -> str:
        distinct = part(select, "distinct")
        if distinct is not None:
            expect_only(distinct)
        written = ", ".join([self._projection(each, scope) for each in children(select)])
        if not written:
            raise Refusal("SELECT needs at least one column.")
        return f"SELECT {'DISTINCT ' if distinct is not None else ''}{written}"

    def _projection(self, node: Node, scope: Scope) -> str:
        if isinstance(node, exp.Star):
            return _star(node)
        if isinstance(node, exp.Column) and isinstance(node.this, exp.Star):
            expect_only(node, "this", "table")
            return f"{quoting.identifier(node.table)}.{_star(node.this)}"
        sql = self._expressions.write(node, scope)
        name = None if isinstance(node, exp.Alias) else _name(node, scope)
        return f"{sql} AS {quoting.identifier(name)}" if name else sql

    def _condition(self, select: exp.Select, key: str, word: str, scope: Scope) -> str:
        node = part(select, key)
        if node is None:
            return ""
        expect_only(node, "this")
        return f"{word} {self._expressions.write(node.this, scope)}"

    def _group(self, select: exp.Select, scope: Scope) -> str:
        group = part(select, "group")
        if group is None:
            return ""
        expect_only(group, "expressions", "all", "rollup", "cube")
        words = ["GROUP BY"]
        words.append("ALL" if group.args.get("all") else self._groups(group, scope))
        words += [f"WITH {k.upper()}" for k in ("rollup", "cube") if group.args.get(k)]
        for key in ("rollup", "cube"):
            for each in children(group, key):
                expect_only(each)
        return " ".join(words)

    def _groups(self, group: Node, scope: Scope) -> str:
        return self._expressions.list(children(group), scope)

    def _windows(self, select: exp.Select, scope: Scope) -> str:
        windows = children(select, "windows")
        written = [
            f"{quoting.identifier(each.name)} AS {self._expressions.window(each, scope)}"
            for each in windows
        ]
        return f"WINDOW {', '.join(written)}" if written else ""

    def _order(self, select: exp.Select, scope: Scope) -> str:
        order = part(select, "order")
        return "" if order is None else self._expressions.order(order, scope)

    def _limit_by(self, select: exp.Select, scope: Scope) -> str:
        limit = part(select, "limit_by")
        if limit is None:
            return ""
        expect_only(limit, "expression", "offset", "expressions")
        skipped = part(limit, "offset")
        offset = f"{self._count(skipped):d}, " if skipped is not None else ""
        columns = self._expressions.list(children(limit), scope)
        return f"LIMIT {offset}{self._count(limit.expression):d} BY {columns}"

    def _limit(self, select: exp.Select) -> str:
        limit, offset = self._rows(select, "limit"), self._rows(select, "offset")
        words = [f"LIMIT {limit:d}"] if limit is not None else []
        words += [f"OFFSET {offset:d}"] if offset is not None else []
        return " ".join(words)

    def _rows(self, select: exp.Select, key: str) -> int | None:
        node = part(select, key)
        if node is None:
            return None
        expect_only(node, "expression")
        return self._count(node.expression)

    def _count(self, node: Node) -> int:
        if isinstance(node, exp.Placeholder):
            return self._parameters.count(node)
        if isinstance(node, exp.Literal) and not node.is_string and _COUNT.fullmatch(node.name):
            return int(node.name)
        most = " of at most 18 digits" if node.name.isdecimal() else ""
        raise Refusal(f"LIMIT and OFFSET take whole numbers{most}.", "LIMIT")


def _name(node: Node, scope: Scope) -> str | None:
    """The name that a column of a SELECT gets, unless it is that of the column that it shows."""
    if isinstance(node, exp.Alias):
        return node.alias
    return paths.json_name(node, scope) or names.text(node)


def _cte(node: Node) -> exp.CTE:
    if not isinstance(node, exp.CTE) or not node.alias:
        raise Refusal("This definition in WITH cannot be used.", text_of(node))
    expect_only(node, "this", "alias", "scalar")
    _expect_bare(node.args["alias"])
    return node


def _unwrapped(query: Node) -> Node:
    while isinstance(query, exp.Subquery):
        expect_only(query, "this")
        query = query.this
    return query


def _query(node: Node) -> exp.Query:
    inner = _unwrapped(node)
    if not isinstance(inner, exp.Query):
        raise Refusal("Only a SELECT may stand here.", text_of(node))
    return inner


def _expect_bare(alias: Node) -> None:
    expect_only(alias, "this")


def _star(node: Node) -> str:
    """`*`, with or without `EXCEPT (…)`."""
    expect_only(node, "except_")
    excepted = children(node, "except_")
    if not all(isinstance(each, exp.Identifier | exp.Column) for each in excepted):
        raise Refusal("EXCEPT takes the names of columns, and no parameters.", "EXCEPT")
    names = [each.name for each in excepted]
    if not names:
        return "*"
    return f"* EXCEPT ({', '.join(map(quoting.identifier, names))})"
