"""Looking at sqlglot's nodes: what they have, and that they have nothing else."""

from __future__ import annotations

from typing import Any, TypeAlias, cast

from sqlglot import exp

from nilometer.query.sql.refusal import Refusal

Node: TypeAlias = exp.Expr

_CLAUSES = {
    "prewhere": "Leave PREWHERE out; write WHERE.",
    "settings": "SETTINGS may not be set.",
    "format": "Leave FORMAT out; the answer's form is the request's.",
    "sample": "SAMPLE is not available.",
    "is_global": "Leave GLOBAL out; everything is in one place.",
    "global_": "Leave GLOBAL out; everything is in one place.",
    "recursive": "WITH RECURSIVE is not available.",
    "into": "INTO is not available.",
    "limit_options": "WITH TIES is not available.",
    "db": "Tables have no database; name one of events, ai_events, calls, traces, sessions.",
    "totals": "WITH TOTALS is not available; WITH ROLLUP is.",
    "interpolate": "INTERPOLATE is not available; what WITH FILL adds is 0, '' or NULL: replace it "
    "in a query around this one.",
    "replace": "* REPLACE is not available; list the columns.",
}


def expect_only(node: Node, *keys: str) -> None:
    """Raise Refusal when the node has anything besides these: what is not known is not copied, and
    must not be dropped in silence."""
    for key, value in node.args.items():
        if value and key not in keys:
            sentence = _CLAUSES.get(key, "This form is not supported; docs/sql.md says what is.")
            raise Refusal(sentence, _WORDS.get(key) or text_of(node))


_WORDS = {
    "prewhere": "PREWHERE",
    "settings": "SETTINGS",
    "format": "FORMAT",
    "sample": "SAMPLE",
    "is_global": "GLOBAL",
    "global_": "GLOBAL",
    "recursive": "RECURSIVE",
    "totals": "TOTALS",
    "interpolate": "INTERPOLATE",
    "replace": "REPLACE",
}


def children(node: Node, key: str = "expressions") -> list[Node]:
    """The nodes of a list."""
    value: Any = node.args.get(key) or []
    if not isinstance(value, list):
        raise Refusal("This form is not supported; docs/sql.md says what is.", text_of(node))
    nodes = cast("list[Any]", value)
    if not all(isinstance(each, exp.Expr) for each in nodes):
        raise Refusal("This form is not supported; docs/sql.md says what is.", text_of(node))
    return nodes


def part(node: Node, key: str) -> Node | None:
    """The node at this key."""
    value: Any = node.args.get(key)
    if value is None or value is False:
        return None
    if not isinstance(value, exp.Expr):
        raise Refusal("This form is not supported; docs/sql.md says what is.", text_of(node))
    return value


def text_of(node: Node) -> str | None:
    """A word of the query near this node."""
    first = next(iter(node.find_all(exp.Identifier, exp.Anonymous)), None)
    return first.name if first is not None else None
