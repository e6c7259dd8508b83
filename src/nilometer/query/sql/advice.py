"""What is refused before it runs because it cannot work, with what to write instead."""

from __future__ import annotations

from sqlglot import exp

from nilometer.query.sql import functions, grammar, paths
from nilometer.query.sql.refusal import Refusal
from nilometer.query.sql.scope import Scope
from nilometer.query.sql.tree import Node

_COMPARED = (exp.EQ, exp.NEQ, exp.NullSafeEQ, exp.LT, exp.LTE, exp.GT, exp.GTE)
_COMPUTED = (exp.Add, exp.Sub, exp.Mul, exp.Div, exp.Mod)
# Functions and aggregates whose first argument is a number, and never a text.
_OF_NUMBERS = frozenset(
    {
        *functions.FUNCTIONS["Mathematics"],
        *("abs", "sign", "sum", "avg", "median", "sumKahan", "sumWithOverflow", "sumCount"),
        *(
            name
            for name in functions.AGGREGATES
            if name.lower().startswith(("quantile", "stddev", "var"))
        ),
    }
)


def check_call(name: str, arguments: list[Node], scope: Scope) -> None:
    """Raise Refusal for a function of numbers that is given a text."""
    base = functions.base(name)
    if base in _OF_NUMBERS and arguments:
        _check_number(arguments[0], scope)


def check_binary(node: Node, scope: Scope) -> None:
    """Raise Refusal where a text in `properties` is compared, or computed, with a number."""
    if not isinstance(node, (*_COMPARED, *_COMPUTED)):
        return
    for each, other in ((node.this, node.expression), (node.expression, node.this)):
        if _is_number(other):
            _check_number(each, scope)


def check_constants(values: list[Node], scope: Scope) -> None:
    """Raise Refusal for the name of a CTE right of IN."""
    first = values[0] if len(values) == 1 else None
    if isinstance(first, exp.Column) and first.name in scope.ctes:
        instead = f"IN (SELECT … FROM {first.name})"  # noqa: S608  (a sentence)
        raise Refusal(f"A name in WITH is a table: write {instead}.", first.name, after="IN")


def _check_number(node: Node, scope: Scope) -> None:
    if paths.is_json(node, scope):
        text = _text(node)
        raise Refusal(
            f"{text} is a text; for a number write toFloat64OrNull({text}).", paths.text(node)
        )


def check_level(name: str, arguments: list[Node]) -> None:
    """Raise Refusal for `quantile(x, 0.5)`, or the other way round."""
    if not functions.base(name).startswith("quantile"):
        return
    levels = [each for each in arguments if _is_number(each) and each.name.startswith("0.")]
    others = [each for each in arguments if not _is_number(each)]
    if levels and others and "Weighted" not in name and "Deterministic" not in name:
        level, what = levels[0].name, _text(others[0])
        raise Refusal(f"Write {name}({level})({what}): the level has brackets of its own.", name)


def _text(node: Node) -> str:
    """An expression as it was written, where that is known."""
    written = str(node.meta.get(grammar.TEXT, ""))
    return written or (paths.text(node) if paths.is_path(node) else "") or "x"


def _is_number(node: Node) -> bool:
    while isinstance(node, exp.Neg | exp.Paren):
        node = node.this
    return isinstance(node, exp.Literal) and not node.is_string
