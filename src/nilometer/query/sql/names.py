"""Which names a place of a query knows, and what columns a SELECT gives to the query around it.

The engine takes a name that it does not know for a function without brackets: `SELECT user` called
`user()`. So a name is refused unless something in scope has it, and the names of such functions are
refused unless this very SELECT defines them beyond doubt: a name that only the queries around it
have might not be what the engine finds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sqlglot import exp

from nilometer.query.sql import functions, grammar, quoting
from nilometer.query.sql.refusal import Refusal
from nilometer.query.sql.scope import Scope
from nilometer.query.sql.tree import Node, children, part

_LONGEST_NAME = 200


class UnknownName(Refusal):
    """A name that nothing in scope has."""

    def __init__(self, name: str) -> None:
        super().__init__("There is no such column here.", name, "unknown_identifier")
        self.name = name


def bare(name: str, scope: Scope, following: str | None = None) -> str:
    """A name without a table, as SQL: a column, an alias or a parameter of a lambda; or a function
    that standard SQL writes without brackets, such as CURRENT_DATE. Raises UnknownName, which names
    what follows after a dot too: the name may be that of another SELECT's table."""
    is_call = functions.is_niladic(name)
    if name in (scope.own if is_call else scope.names):
        return quoting.identifier(name)
    allowed = functions.canonical(name) if is_call else None
    if allowed is None:
        raise UnknownName(f"{name}.{following}" if following else name)
    return f"{allowed}()"


def of_table(table: str, column: str, scope: Scope) -> str:
    """A column of a table in FROM, as SQL. Raises UnknownName."""
    if column not in scope.columns.get(table, ()):
        raise UnknownName(f"{table}.{column}")
    return f"{quoting.identifier(table)}.{quoting.identifier(column)}"


def text(node: Node) -> str | None:
    """The text of an expression that is no name itself and has none: what is written for it can
    look otherwise, and would name its column."""
    if isinstance(node, exp.Alias | exp.Column | exp.Identifier):
        return None
    words = str(node.meta.get(grammar.TEXT, ""))
    return words if 0 < len(words) <= _LONGEST_NAME else None


def aliases(select: exp.Select) -> frozenset[str]:
    """The names that the SELECT gives to its expressions, anywhere but in lambdas."""
    return frozenset(each.alias for each in _named(select))


def renamed(select: exp.Select) -> frozenset[str]:
    """The names that the SELECT gives to something else than a column."""
    columns = exp.Column | exp.Identifier | exp.Dot
    return frozenset(each.alias for each in _named(select) if not isinstance(each.this, columns))


def certain(select: exp.Select, given: Mapping[str, Node]) -> frozenset[str]:
    """The names of the SELECT's own columns, of these, that do not refer to themselves: there the
    engine would look further for the name, and come to a function."""
    uses: dict[str, set[str]] = {}
    for each in _named(select):
        uses.setdefault(each.alias, set()).update(_mentioned(each.this))
    for name, node in given.items():
        made = node.this if isinstance(node, exp.Alias) else node
        uses.setdefault(name, set()).update(_mentioned(made))
    return frozenset(name for name in given if name not in _reached(name, uses))


def without_calls(names: Iterable[str]) -> frozenset[str]:
    """These names less those of functions without brackets."""
    return frozenset(name for name in names if not functions.is_niladic(name))


def _reached(start: str, uses: Mapping[str, set[str]]) -> set[str]:
    found: set[str] = set()
    waiting = [start]
    while waiting:
        fresh = uses.get(waiting.pop(), set()) - found
        found |= fresh
        waiting += fresh
    return found


def _mentioned(node: Node) -> set[str]:
    return {each.name for each in node.find_all(exp.Identifier)}


def _named(select: exp.Select) -> list[exp.Alias]:
    """The SELECT's aliases, but for those in queries inside it and in lambdas."""
    found: list[exp.Alias] = []
    waiting: list[Node] = [each for each in select.iter_expressions() if not _is_source(each)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, exp.Query | exp.Lambda):
            continue
        if isinstance(node, exp.Alias):
            found.append(node)
        waiting += node.iter_expressions()
    return found


def _is_source(node: Node) -> bool:
    return isinstance(node, exp.From | exp.With)


def arrays(select: exp.Select) -> frozenset[str]:
    """The names that ARRAY JOIN gives."""
    joins = [each for each in children(select, "joins") if each.args.get("kind") == "ARRAY"]
    arrays = [array for join in joins for array in (join.this, *children(join))]
    return frozenset(each.alias for each in arrays if each.alias)


def star(node: Node) -> tuple[str | None, frozenset[str]] | None:
    """For `*` and `table.*`: the table, and the columns left out. None for anything else."""
    table = None
    if isinstance(node, exp.Column) and isinstance(node.this, exp.Star):
        table, node = node.table, node.this
    if not isinstance(node, exp.Star):
        return None
    return table, frozenset(each.name for each in children(node, "except_"))


def starred(select: exp.Select, node: Node, scope: Scope) -> frozenset[str]:
    """The columns of a star. The engine writes the table before a name that two tables have."""
    found = star(node)
    if found is None:
        return frozenset()
    table, left_out = found
    names = scope.from_columns if table is None else scope.columns.get(table, frozenset[str]())
    if not children(select, "joins"):
        return names - left_out
    dotted = {f"{alias}.{name}" for alias, has in scope.columns.items() for name in has}
    return (without_calls(names) | dotted) - left_out


def of_column(select: exp.Select, node: Node) -> frozenset[str]:
    """The names that a column has in the query around this one, shown as it is."""
    if not isinstance(node, exp.Column) or part(node, "table") is None:
        return frozenset({node.name}) if isinstance(node, exp.Column) else frozenset()
    dotted, name = f"{node.table}.{node.name}", node.name
    sure = not children(select, "joins") or not functions.is_niladic(name)
    return frozenset({dotted, name} if sure else {dotted})
