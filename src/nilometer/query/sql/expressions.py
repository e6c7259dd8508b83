"""Expressions of a query, written anew: a kind of node that is not in the table is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from sqlglot import exp

from nilometer.query.sql import (
    advice,
    constants,
    functions,
    moments,
    paths,
    properties,
    quoting,
    types,
    zones,
)
from nilometer.query.sql.parameters import Parameters
from nilometer.query.sql.refusal import Refusal
from nilometer.query.sql.scope import Scope
from nilometer.query.sql.tree import Node, children, expect_only, part, text_of

_BINARY: Mapping[type[Node], str] = {
    exp.And: "AND",
    exp.Or: "OR",
    exp.EQ: "=",
    exp.NEQ: "!=",
    exp.NullSafeEQ: "<=>",
    exp.LT: "<",
    exp.LTE: "<=",
    exp.GT: ">",
    exp.GTE: ">=",
    exp.Add: "+",
    exp.Sub: "-",
    exp.Mul: "*",
    exp.Div: "/",
    exp.Mod: "%",
    exp.Like: "LIKE",
    exp.ILike: "ILIKE",
}
_COMPARISONS = (exp.EQ, exp.NEQ, exp.NullSafeEQ, exp.LT, exp.LTE, exp.GT, exp.GTE)
_LOOSE = (*_BINARY, exp.Not, exp.Neg, exp.Is, exp.In, exp.Lambda, exp.Alias)
# Numbers that the engine prints as words.
_WORDS = frozenset({"inf", "nan"})
# How conversions end that take a text only.
_OF_TEXT = ("OrNull", "OrZero")
Compile = Callable[[exp.Query, Scope], str]


class Expressions:
    """Writes expressions. `query` writes a query that stands inside one."""

    def __init__(self, query: Compile, parameters: Parameters) -> None:
        self._query = query
        self._parameters = parameters
        self._writers: Mapping[type[Node], Callable[[Any, Scope], str]] = {
            exp.Literal: self._literal,
            exp.Null: lambda _, __: "NULL",
            exp.Boolean: lambda node, _: "true" if node.this else "false",
            exp.Column: self._path,
            exp.Identifier: self._path,
            exp.Dot: self._path,
            exp.Bracket: self._path,
            exp.Paren: self._paren,
            exp.Tuple: self._tuple,
            exp.Array: self._array,
            exp.Anonymous: self._call,
            exp.ParameterizedAgg: self._parametric,
            exp.IgnoreNulls: self._nulls,
            exp.RespectNulls: self._nulls,
            exp.Window: self._window,
            exp.Not: self._not,
            exp.Neg: self._negative,
            exp.Is: self._is,
            exp.In: self._in,
            exp.Subquery: self._subquery,
            exp.Placeholder: self._parameter,
            exp.Alias: self._alias,
            **dict.fromkeys(_BINARY, self._binary),
        }

    def write(self, node: Node, scope: Scope) -> str:
        """The expression as SQL. Raises Refusal."""
        writer = self._writers.get(type(node))
        if writer is None:
            raise Refusal(_unsupported(node), _WORD_OF.get(type(node)) or text_of(node))
        return writer(node, scope)

    def list(self, nodes: list[Node], scope: Scope) -> str:
        """Expressions, separated by commas."""
        return ", ".join([self.write(node, scope) for node in nodes])

    def order(self, node: Node, scope: Scope) -> str:
        """An ORDER BY with its words."""
        expect_only(node, "expressions")
        terms = children(node)
        if len(terms) == 1 and _is_all(terms[0]):
            return f"ORDER BY ALL {_direction(terms[0])}"
        return f"ORDER BY {', '.join([self._ordered(each, scope) for each in terms])}"

    def window(self, node: Node, scope: Scope) -> str:
        """What stands in the brackets of OVER, or of a named window."""
        expect_only(node, "this", "partition_by", "order", "spec", "over")
        parts: list[str] = []
        if partition := children(node, "partition_by"):
            parts.append(f"PARTITION BY {self.list(partition, scope)}")
        if order := part(node, "order"):
            parts.append(self.order(order, scope))
        if spec := part(node, "spec"):
            parts.append(self._frame(spec))
        return f"({' '.join(parts)})"

    def _literal(self, node: exp.Literal, _: Scope) -> str:
        return quoting.string(node.name) if node.is_string else _number(node)

    def _path(self, node: Node, scope: Scope) -> str:
        if isinstance(node, exp.Column) and _is_word(node):
            return node.name
        return paths.write(node, scope, self.write)

    def _operand(self, node: Node, scope: Scope, parent: Node) -> str:
        sql = self.write(node, scope)
        chained = isinstance(node, exp.And | exp.Or) and type(node) is type(parent)
        return f"({sql})" if isinstance(node, _LOOSE) and not chained else sql

    def _binary(self, node: Node, scope: Scope) -> str:
        expect_only(node, "this", "expression", "negate")
        word = _BINARY[type(node)]
        if node.args.get("negate"):
            word = f"NOT {word}"
        advice.check_binary(node, scope)
        first, second = node.this, node.expression
        if isinstance(node, _COMPARISONS):
            first, second = _compared(first, second, scope), _compared(second, first, scope)
        left = self._operand(first, scope, node)
        return f"{left} {word} {self._operand(second, scope, node)}"

    def _not(self, node: exp.Not, scope: Scope) -> str:
        inner: Node = node.this
        if isinstance(inner, exp.In):
            return self._in(inner, scope, "NOT IN")
        if isinstance(inner, exp.Is):
            return self._is(inner, scope, "IS NOT")
        return f"NOT {self._operand(inner, scope, node)}"

    def _negative(self, node: exp.Neg, scope: Scope) -> str:
        return f"-{self._operand(node.this, scope, node)}"

    def _is(self, node: exp.Is, scope: Scope, word: str = "IS") -> str:
        if not isinstance(node.expression, exp.Null):
            raise Refusal("IS may only be followed by NULL or NOT NULL.", "IS")
        return f"{self._operand(node.this, scope, node)} {word} NULL"

    def _in(self, node: exp.In, scope: Scope, word: str = "IN") -> str:
        """The right side is constants or a subquery: a name there would be a table."""
        expect_only(node, "this", "expressions", "query")
        left = self._operand(node.this, scope, node)
        query = part(node, "query")
        if query is not None:
            return f"{left} {word} {self._subquery(query, scope)}"
        values = children(node)
        if len(values) == 1 and isinstance(values[0], exp.Query | exp.Subquery):
            return f"{left} {word} {self._subquery(values[0], scope)}"
        advice.check_constants(values, scope)
        for value in values:
            constants.expect(value)
        values = [_compared(value, node.this, scope) for value in values]
        return f"{left} {word} ({self.list(values, scope)})"

    def _subquery(self, node: Node, scope: Scope) -> str:
        inner = node
        while isinstance(inner, exp.Subquery):
            expect_only(inner, "this")
            inner = inner.this
        if not isinstance(inner, exp.Query):
            raise Refusal(_unsupported(inner), text_of(inner))
        return f"({self._query(inner, scope.inner())})"

    def _paren(self, node: exp.Paren, scope: Scope) -> str:
        return f"({self.write(node.this, scope)})"

    def _tuple(self, node: exp.Tuple, scope: Scope) -> str:
        return f"tuple({self.list(children(node), scope)})"

    def _array(self, node: exp.Array, scope: Scope) -> str:
        return f"[{self.list(children(node), scope)}]"

    def _call(self, node: exp.Anonymous, scope: Scope) -> str:
        expect_only(node, "this", "expressions")
        if node.name.lower() == "exists":
            return self._exists(children(node), scope)
        if node.name.lower() == "dayname" and len(children(node)) == 1:
            return f"dateName('weekday', {self.list(children(node), scope)})"
        name = _function(node.name)
        if paths.is_path(node):
            return self._path(node, scope)
        arguments = children(node)
        advice.check_level(name, arguments)
        advice.check_call(name, arguments, scope)
        zones.check(name, arguments)
        if name == "JSONExtractKeys" and len(arguments) == 1:
            owner = paths.owner_of(arguments[0], scope)
            if owner is not None and (names := owner.names()):
                return names
        return f"{name}({self._arguments(name, arguments, scope)})"

    def _exists(self, arguments: list[Node], scope: Scope) -> str:
        if len(arguments) != 1 or not isinstance(arguments[0], exp.Subquery):
            raise Refusal("EXISTS takes one subquery.", "exists")
        return f"exists({self._subquery(arguments[0], scope)})"

    def _parametric(self, node: exp.ParameterizedAgg, scope: Scope) -> str:
        expect_only(node, "this", "expressions", "params")
        name = _function(str(node.this))
        for value in children(node):
            constants.expect(value)
        levels = self.list(children(node), scope)
        advice.check_call(name, children(node, "params"), scope)
        return f"{name}({levels})({self._arguments(name, children(node, 'params'), scope)})"

    def _arguments(self, name: str, nodes: list[Node], scope: Scope) -> str:
        nodes = _without_star(name, nodes)
        nodes = _narrowed(name, nodes, scope)
        if name in functions.TYPED:
            *values, kind = nodes or [exp.Null()]
            if not (isinstance(kind, exp.Literal) and kind.is_string):
                raise Refusal(f"The last argument of {name} is a type, in quotes.", name)
            written = quoting.string(_type(name, kind.name))
            return ", ".join((*self._each(values, scope), written))
        written = self._each(nodes, scope)
        if name.startswith("to") and name.endswith(_OF_TEXT) and paths.typed(nodes[0], scope):
            written[0] = f"toString({written[0]})"
        return ", ".join(written)

    def _each(self, nodes: list[Node], scope: Scope) -> list[str]:
        return [self._argument(node, scope) for node in nodes]

    def _argument(self, node: Node, scope: Scope) -> str:
        if isinstance(node, exp.Lambda):
            return self._lambda(node, scope)
        if isinstance(node, exp.Distinct):
            expect_only(node, "expressions")
            return f"DISTINCT {self.list(children(node), scope)}"
        return self.write(node, scope)

    def _lambda(self, node: exp.Lambda, scope: Scope) -> str:
        expect_only(node, "this", "expressions")
        names = [each.name for each in children(node)]
        body = self._argument(node.this, scope.with_parameters(names))
        return f"({', '.join(map(quoting.identifier, names))}) -> {body}"

    def _nulls(self, node: Node, scope: Scope) -> str:
        word = "IGNORE" if isinstance(node, exp.IgnoreNulls) else "RESPECT"
        if not isinstance(node.this, exp.Anonymous | exp.ParameterizedAgg):
            raise Refusal(f"{word} NULLS may only follow a function.", word)
        return f"{self.write(node.this, scope)} {word} NULLS"

    def _window(self, node: exp.Window, scope: Scope) -> str:
        function: Node = node.this
        if not isinstance(
            function, exp.Anonymous | exp.ParameterizedAgg | exp.IgnoreNulls | exp.RespectNulls
        ):
            raise Refusal("OVER may only follow a function.", "OVER")
        named = part(node, "alias")
        if named is None:
            return f"{self.write(function, scope)} OVER {self.window(node, scope)}"
        expect_only(node, "this", "alias", "over")
        return f"{self.write(function, scope)} OVER {quoting.identifier(named.name)}"

    def _frame(self, node: Node) -> str:
        expect_only(node, "kind", "start", "start_side", "end", "end_side")
        kind = str(node.args.get("kind"))
        if kind not in ("ROWS", "RANGE"):
            raise Refusal("A window's frame is of ROWS or RANGE.", kind)
        start, end = _bound(node, "start"), _bound(node, "end")
        return f"{kind} BETWEEN {start} AND {end}" if end else f"{kind} {start}"

    def _ordered(self, node: Node, scope: Scope) -> str:
        expect_only(node, "this", "desc", "nulls_first", "with_fill")
        words = [self.write(node.this, scope), _direction(node)]
        if fill := part(node, "with_fill"):
            expect_only(fill, "from_", "to", "step")
            words.append("WITH FILL")
            for key, word in (("from_", "FROM"), ("to", "TO"), ("step", "STEP")):
                if value := part(fill, key):
                    words.append(f"{word} {self.write(value, scope)}")
        return " ".join(words)

    def _parameter(self, node: exp.Placeholder, _: Scope) -> str:
        return self._parameters.write(node)

    def _alias(self, node: exp.Alias, scope: Scope) -> str:
        expect_only(node, "this", "alias")
        return f"{self._operand(node.this, scope, node)} AS {quoting.identifier(node.alias)}"


def _compared(node: Node, other: Node, scope: Scope) -> Node:
    """What is compared with `other`: the text of a time in the engine's form beside a time."""
    return moments.literal(node) if moments.name_of(other) in scope.moments else node


def _without_star(name: str, nodes: list[Node]) -> list[Node]:
    """The arguments of `count(*)`, and of `COUNT(*) FILTER (WHERE x)`, which the engine prints as
    `COUNTIf(*, x)`, less their star."""
    if not any(isinstance(node, exp.Star) for node in nodes):
        return nodes
    first, *rest = nodes
    if name not in ("count", "countIf") or not isinstance(first, exp.Star):
        raise Refusal(_NAMES[exp.Star], name)
    expect_only(first)
    return rest or ([exp.Boolean(this=True)] if name == "countIf" else [])


def _narrowed(name: str, nodes: list[Node], scope: Scope) -> list[Node]:
    """The arguments of a function that reads a property in `properties`: with a shorter text that
    has it too, where there is one."""
    before_keys = 2 if name in functions.TYPED else 1
    if name not in properties.READERS or len(nodes) <= before_keys:
        return nodes
    owner, key = paths.owner_of(nodes[0], scope), nodes[1]
    if owner is None or not isinstance(key, exp.Literal) or not key.is_string:
        return nodes
    column, is_value = owner.text(key.name)
    if is_value:
        return nodes
    names = (exp.to_identifier(each, quoted=True) for each in (column, owner.alias))
    return [exp.column(*names), *nodes[1:]]


def _type(name: str, kind: str) -> str:
    try:
        return types.parse(kind)
    except Refusal as refusal:
        if not name.startswith("JSONExtract"):
            raise
        sentence = f"The last argument of {name} is a type: {name}(…, 'String'). {refusal.sentence}"
        raise Refusal(sentence, name) from None


def _is_all(term: Node) -> bool:
    column: Any = term.this
    return isinstance(column, exp.Column) and column.sql() == "ALL"


def _direction(term: Node) -> str:
    nulls = "FIRST" if term.args.get("nulls_first") else "LAST"
    return f"{'DESC' if term.args.get('desc') else 'ASC'} NULLS {nulls}"


def _number(node: Node) -> str:
    try:
        return quoting.number(node.name)
    except ValueError:
        raise Refusal("This number cannot be read.", node.name) from None


def _is_word(node: exp.Column) -> bool:
    name: Any = node.this
    return isinstance(name, exp.Identifier) and not name.quoted and node.sql() in _WORDS


def _function(name: str) -> str:
    known = functions.canonical(name)
    if known is None and (instead := functions.instead_of(name)):
        raise Refusal(f"The function {name[:60]}() is not available; {instead}", name)
    if known is None:
        like = functions.similar(name)
        hint = f" Did you mean {like}()?" if like else " docs/sql.md lists those that are."
        raise Refusal(f"The function {name[:60]}() is not available.{hint}", name)
    return known


def _bound(node: Node, key: str) -> str:
    """One end of a window's frame."""
    value, side = cast("Any", node.args.get(key)), node.args.get(f"{key}_side")
    if value is None:
        return ""
    if value == "CURRENT ROW":
        return "CURRENT ROW"
    if side not in ("PRECEDING", "FOLLOWING"):
        raise Refusal("This frame of a window cannot be used.", "BETWEEN")
    if value == "UNBOUNDED":
        return f"UNBOUNDED {side}"
    if not isinstance(value, exp.Literal) or value.is_string:
        raise Refusal(
            "A window's frame is bounded by numbers; for time, ORDER BY toUnixTimestamp(timestamp) "
            "RANGE BETWEEN 3600 PRECEDING AND CURRENT ROW is an hour.",
            "BETWEEN",
        )
    return f"{_number(value)} {side}"


_NAMES: Mapping[type[Node], str] = {
    exp.Star: "* may only stand alone in SELECT, or in count(*).",
    exp.GroupingSets: "GROUPING SETS is not available; WITH ROLLUP and WITH CUBE are.",
    exp.Lambda: "A lambda may only be a function's argument.",
    exp.Distinct: "DISTINCT may only follow SELECT, or stand first in an aggregate.",
}


_WORD_OF: Mapping[type[Node], str] = {exp.Star: "*", exp.GroupingSets: "GROUPING"}


def _unsupported(node: Node) -> str:
    return _NAMES.get(type(node), "This form is not supported; docs/sql.md says what is.")
