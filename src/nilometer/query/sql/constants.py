"""What may stand where constants must: right of IN, and in an aggregate's first brackets."""

from __future__ import annotations

from sqlglot import exp

from nilometer.query.sql import functions
from nilometer.query.sql.refusal import Refusal
from nilometer.query.sql.tree import Node, children, text_of

_CONSTANTS = (exp.Literal, exp.Null, exp.Boolean, exp.Placeholder)
# What may be called right of IN, on constants.
_CONSTANT_CALLS = frozenset(
    {"CAST", "toDate", "toDateTime", "toDateTime64", "toUUID", "tuple", "array"}
)


def expect(node: Node) -> None:
    """Numbers, texts, tuples and arrays of them, parameters, and dates made from a text."""
    if isinstance(node, _CONSTANTS):
        return
    inner = children(node)
    if isinstance(node, exp.Neg | exp.Paren):
        inner = [node.this]
    elif isinstance(node, exp.Anonymous):
        if functions.canonical(node.name) not in _CONSTANT_CALLS:
            raise _not_constant(node)
    elif not isinstance(node, exp.Tuple | exp.Array):
        raise _not_constant(node)
    for each in inner:
        expect(each)


def _not_constant(node: Node) -> Refusal:
    return Refusal(
        "Only constants may stand here; right of IN also a subquery: IN (SELECT … FROM …).",
        text_of(node),
        after="IN",
    )
