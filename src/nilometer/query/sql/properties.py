"""Which column answers a path into `properties`: prompts and answers need not be read for it.

Where `properties` is the column of a virtual table in the same FROM, `properties.$ai_model` is the
typed column `model`, its value and its type. `properties.plan`, for which there is no column, is
read in the JSON text of those properties that have none. In `ai_events`, whose `properties` leave
prompts out, `properties.$ai_input` is read in the column `input`. Anything else, and `properties`
of a subquery or a CTE, is read in the text itself: the same values, more slowly.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sqlglot import exp

from nilometer.query.sql import quoting
from nilometer.query.sql.tables import HEAVY, TABLES, TYPED, VirtualTable
from nilometer.query.sql.tree import Node, children, part

NAME = "properties"
# Functions of a JSON text and a path in it, that give the same for a path into part of the text.
# Not among them what tells 1.0 from 1, which that part does not (nor -0.0 from 0).
READERS = frozenset(
    {
        *("JSONExtract", "JSONExtractString", "JSONExtractRaw", "JSONExtractArrayRaw"),
        *("JSONExtractFloat", "JSONExtractKeys", "JSONHas", "JSONLength"),
        *("JSONExtractKeysAndValuesRaw",),
    }
)
OTHER = "$other"
NAMES = "$names"


@dataclass(frozen=True, slots=True)
class Owner:
    """A virtual table of a FROM. `apart`: whether it gives the columns that `*` does not have."""

    alias: str
    table: VirtualTable
    apart: bool

    def column(self, name: str) -> str:
        """One of its columns, by a name that means nothing else."""
        return f"{quoting.identifier(self.alias)}.{quoting.identifier(name)}"

    def typed(self, key: str) -> str | None:
        """The typed column of a property."""
        return self.column(TYPED[key]) if key in TYPED else None

    def text(self, key: str) -> tuple[str, bool]:
        """The column of JSON text that has this property; whether it is nothing but its value."""
        if key in HEAVY and self.table.name == "ai_events":
            return HEAVY[key], True
        if self.apart and key not in HEAVY and key not in TYPED:
            return OTHER, False
        return NAME, False

    def names(self) -> str | None:
        """The column of all properties' names."""
        return self.column(NAMES) if self.apart else None


@dataclass(frozen=True, slots=True)
class Owners:
    """The virtual tables of a FROM that have `properties`, by alias; and which of them `properties`
    alone means."""

    by_alias: Mapping[str, Owner]
    bare: Owner | None = None

    def of(self, names: list[str | None], parameters: Collection[str]) -> Owner | None:
        """The table of a column that is named so: `properties` or `alias.properties`. `parameters`
        are those of lambdas around it, which go before tables."""
        if names[-1] != NAME or names[0] in parameters:
            return None
        owner = self.bare if len(names) == 1 else self.by_alias.get(names[0] or "")
        return None if owner is None or owner.alias in parameters else owner


NONE = Owners({})


def owners(select: exp.Select, sources: Sequence[tuple[str | None, Node]]) -> Owners:
    """The owners among these tables and subqueries of the SELECT, by alias. Names in WITH come as
    subqueries.

    None where another meaning is near: something else of the same name, or grouping by the text.
    """
    named = select.root().find_all(exp.Alias, exp.CTE)
    if any(each.alias == NAME for each in named) or _groups_by_text(select):
        return NONE
    taken = Counter(alias for alias, _ in sources)
    apart = not any(_is_star(each) for each in children(select))
    found: dict[str, Owner] = {}
    rivals = 0
    for alias, node in sources:
        table = TABLES.get(node.name) if isinstance(node, exp.Table) else None
        if table is None or not alias or taken[alias] > 1:
            rivals += _may_export(node)
        elif NAME in table.names():
            found[alias] = Owner(alias, table, apart)
    alone = len(found) == 1 and not rivals
    return Owners(found, next(iter(found.values())) if alone else None)


def _groups_by_text(select: exp.Select) -> bool:
    group = part(select, "group")
    if group is None:
        return False
    return any(
        isinstance(each, exp.Column) and each.name == NAME
        for each in (*children(group), *children(select))
    )


def _is_star(node: Node) -> bool:
    return isinstance(node, exp.Star) or (
        isinstance(node, exp.Column) and isinstance(node.this, exp.Star)
    )


def _may_export(node: Node) -> bool:
    """Whether a subquery may have a column of that name."""
    inner: Node | None = node
    while isinstance(inner, exp.Subquery):
        inner = inner.args.get("this")
    if not isinstance(inner, exp.Select):
        return True
    return any(_is_star(each) or each.alias_or_name == NAME for each in children(inner))
