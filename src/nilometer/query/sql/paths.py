"""Names with dots and subscripts: columns, elements of tuples, and values inside `properties`.

`properties` is JSON text. `properties.plan`, `properties['plan']` and any longer path read a value
in it: a text as it is, anything else as JSON text, NULL when it is null or not there. Where a
column has the value, that is what is read (see `properties`, the module).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlglot import exp

from nilometer.query.sql import names, quoting
from nilometer.query.sql.properties import NAME as _JSON
from nilometer.query.sql.properties import Owner
from nilometer.query.sql.refusal import Refusal
from nilometer.query.sql.scope import Scope
from nilometer.query.sql.tables import TYPED
from nilometer.query.sql.tree import Node, children, expect_only, text_of

Write = Callable[[Node, Scope], str]

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


def is_path(node: Node) -> bool:
    """Whether a node is a name with or without steps."""
    return isinstance(node, _PATHS) or _element(node) is not None


def _element(node: Node) -> Step | None:
    """The last step of `path[1].name`: the engine prints it as `tupleElement(path[1], 'name')`."""
    if not isinstance(node, exp.Anonymous) or node.name != "tupleElement":
        return None
    of, name = (*children(node), None, None)[:2]
    if len(children(node)) != 2 or not isinstance(name, exp.Literal) or of is None:
        return None
    if not is_path(of):
        return None
    return Step(exp.to_identifier(name.name, quoted=True) if name.is_string else name)


def write(node: Node, scope: Scope, write_expression: Write) -> str:
    """The path as SQL. Raises Refusal."""
    root, steps = _steps(node)
    if root is not None:
        return _follow(_operand(root, scope, write_expression), steps, scope, write_expression)
    count = _column_length(steps, scope)
    column = _column(steps, count, scope)
    if _is_json(steps, count, scope):
        owner = scope.owners.of([step.name for step in steps[:count]], scope.parameters)
        return _json(column, owner, steps[count:], scope, write_expression)
    return _follow(column, steps[count:], scope, write_expression)


def json_name(node: Node, scope: Scope) -> str | None:
    """For a value inside `properties`, what its column in an answer is called: its last name."""
    if not is_path(node):
        return None
    root, steps = _steps(node)
    if root is not None or not _is_json(steps, _column_length(steps, scope), scope):
        return None
    name = _key(steps[-1])
    # The engine would take another use of such a name for this column.
    return None if name == _JSON or name in scope.aliases else name


def is_json(node: Node, scope: Scope) -> bool:
    """Whether a path reads a value in JSON, which is a text."""
    if not is_path(node):
        return False
    root, steps = _steps(node)
    if root is not None or not _is_json(steps, _column_length(steps, scope), scope):
        return False
    return not typed(node, scope)


def text(node: Node) -> str:
    """A path as it may have been written."""
    _, steps = _steps(node)
    return ".".join(name for step in steps if (name := _key(step)))


def typed(node: Node, scope: Scope) -> bool:
    """Whether a path reads a typed column instead of `properties`."""
    owner, steps = _owned(node, scope)
    return owner is not None and len(steps) == 1 and (_key(steps[0]) or "") in TYPED


def owner_of(node: Node, scope: Scope) -> Owner | None:
    """The table whose whole `properties` a node is."""
    owner, steps = _owned(node, scope)
    return None if steps else owner


def _owned(node: Node, scope: Scope) -> tuple[Owner | None, list[Step]]:
    """The table whose `properties` a path begins with, and the steps after that."""
    if not is_path(node):
        return None, []
    root, steps = _steps(node)
    if root is not None or not steps:
        return None, []
    count = _column_length(steps, scope)
    names = [step.name for step in steps[:count]]
    return scope.owners.of(names, scope.parameters), steps[count:]


def _steps(node: Node) -> tuple[Node | None, list[Step]]:
    """What a path starts from (None: a name), and its steps."""
    if isinstance(node, exp.Identifier):
        return None, [Step(node)]
    if isinstance(node, exp.Column):
        expect_only(node, *_PARTS)
        return None, [Step(node.args[key]) for key in _PARTS if node.args.get(key)]
    if isinstance(node, exp.Paren) and (isinstance(node.this, exp.Paren) or is_path(node.this)):
        return _steps(node.this)  # the engine prints `a.b.c` of some paths as `(a.b).c`
    if isinstance(node, exp.Dot):
        root, steps = _steps(node.this)
        return root, [*steps, Step(node.expression)]
    if (element := _element(node)) is not None:
        root, steps = _steps(children(node)[0])
        return root, [*steps, element]
    if isinstance(node, exp.Bracket):
        expect_only(node, "this", "expressions")
        root, steps = _steps(node.this)
        return root, [*steps, *(Step(each, subscript=True) for each in children(node))]
    return node, []


def _column_length(steps: list[Step], scope: Scope) -> int:
    """How many steps name the column: two when the first is a table of this FROM."""
    first = steps[0].name
    is_table = first in scope.aliases and first not in scope.parameters
    if len(steps) > 1 and steps[1].name is not None and is_table:
        return 2
    return 1


def _column(steps: list[Step], count: int, scope: Scope) -> str:
    if count > 1:
        return names.of_table(_name(steps[0]), _name(steps[1]), scope)
    following = steps[1].name if len(steps) > 1 else None
    return names.bare(_name(steps[0]), scope, following)


def _is_json(steps: list[Step], count: int, scope: Scope) -> bool:
    last = steps[count - 1].name
    return len(steps) > count and last == _JSON and last not in scope.parameters


def _json(
    column: str, owner: Owner | None, steps: list[Step], scope: Scope, write_expression: Write
) -> str:
    key = _key(steps[0])
    if owner is not None:
        column = owner.column(_JSON)
        if key is not None:
            if len(steps) == 1 and (found := owner.typed(key)):
                return found
            name, is_value = owner.text(key)
            column = f"ifNull({owner.column(name)}, '')" if is_value else owner.column(name)
            steps = steps[1:] if is_value else steps
    keys = [
        quoting.string(step.name) if step.name is not None else write_expression(step.node, scope)
        for step in steps
    ]
    return f"JSONExtract({', '.join((column, *keys))}, 'Nullable(String)')"


def _key(step: Step) -> str | None:
    """The name that a step reads, where it is written as one."""
    is_text = isinstance(step.node, exp.Literal) and step.node.is_string
    return step.node.name if is_text else step.name


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
