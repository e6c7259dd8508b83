"""Names with dots and subscripts: columns, elements of tuples, and values inside `properties`.

`properties` is JSON text. `properties.$ai_model`, `properties['$ai_model']` and any longer path
read a value in it: a text as it is, anything else as JSON text, NULL when it is null or not there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlglot import exp

from nilometer.query.sql import quoting
from nilometer.query.sql.refusal import Refusal
from nilometer.query.sql.scope import Scope
from nilometer.query.sql.tree import Node, children, expect_only, text_of

Write = Callable[[Node, Scope], str]

_JSON = "properties"
_PATHS = (exp.Column, exp.Dot, exp.Bracket)
_PARTS = ("catalog", "db", "table", "this")


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a path: `.name` and `.1` by their node, `[…]` when `subscript`."""

    node: Node
    subscript: bool = False

    @property
    def name(self) -> str | None:
        """The name of a `.name`."""
        is_name = isinstance(self.node, exp.Identifier) and not self.subscript
        return self.node.name if is_name else None


def write(node: Node, scope: Scope, write_expression: Write) -> str:
    """The path as SQL. Raises Refusal."""
    root, steps = _steps(node)
    if root is not None:
        return _follow(_operand(root, scope, write_expression), steps, scope, write_expression)
    count = _column_length(steps, scope)
    column = ".".join(quoting.identifier(_name(step)) for step in steps[:count])
    if _is_json(steps, count, scope):
        return _json(column, steps[count:], scope, write_expression)
    return _follow(column, steps[count:], scope, write_expression)


def json_name(node: Node, scope: Scope) -> str | None:
    """For a value inside `properties`, what its column in an answer is called: its last name."""
    if not isinstance(node, _PATHS):
        return None
    root, steps = _steps(node)
    if root is not None or not _is_json(steps, _column_length(steps, scope), scope):
        return None
    last = steps[-1].node
    is_key = isinstance(last, exp.Identifier) or (isinstance(last, exp.Literal) and last.is_string)
    return last.name if is_key else None


def _steps(node: Node) -> tuple[Node | None, list[Step]]:
    """What a path starts from (None: a name), and its steps."""
    if isinstance(node, exp.Identifier):
        return None, [Step(node)]
    if isinstance(node, exp.Column):
        expect_only(node, *_PARTS)
        return None, [Step(node.args[key]) for key in _PARTS if node.args.get(key)]
    if isinstance(node, exp.Paren) and isinstance(node.this, (*_PATHS, exp.Paren)):
        return _steps(node.this)  # the engine prints `a.b.c` of some paths as `(a.b).c`
    if isinstance(node, exp.Dot):
        root, steps = _steps(node.this)
        return root, [*steps, Step(node.expression)]
    if isinstance(node, exp.Bracket):
        expect_only(node, "this", "expressions")
        root, steps = _steps(node.this)
        return root, [*steps, *(Step(each, subscript=True) for each in children(node))]
    return node, []


def _column_length(steps: list[Step], scope: Scope) -> int:
    """How many steps name the column: two when the first is a table of this FROM."""
    if len(steps) > 1 and steps[1].name is not None and steps[0].name in scope.aliases:
        return 2
    return 1


def _is_json(steps: list[Step], count: int, scope: Scope) -> bool:
    last = steps[count - 1].name
    return len(steps) > count and last == _JSON and last not in scope.parameters


def _json(column: str, steps: list[Step], scope: Scope, write_expression: Write) -> str:
    keys = [
        quoting.string(step.name) if step.name is not None else write_expression(step.node, scope)
        for step in steps
    ]
    return f"JSONExtract({column}, {', '.join(keys)}, 'Nullable(String)')"


def _follow(sql: str, steps: list[Step], scope: Scope, write_expression: Write) -> str:
    """The steps after a column: elements of a tuple, or of an array or map."""
    for step in steps:
        if step.subscript:
            sql = f"{sql}[{write_expression(step.node, scope)}]"
        elif step.name is not None:
            sql = f"tupleElement({sql}, {quoting.string(step.name)})"
        else:
            sql = f"tupleElement({sql}, {_index(step.node)})"
    return sql


def _operand(root: Node, scope: Scope, write_expression: Write) -> str:
    sql = write_expression(root, scope)
    return f"({sql})" if isinstance(root, exp.Binary | exp.Unary) else sql


def _index(node: Node) -> str:
    if isinstance(node, exp.Literal) and not node.is_string and node.name.isdecimal():
        return quoting.number(node.name)
    raise Refusal("After a dot stands a name or a number.", text_of(node))


def _name(step: Step) -> str:
    if step.name is None:
        raise Refusal("This is not the name of a column.", text_of(step.node))
    return step.name
