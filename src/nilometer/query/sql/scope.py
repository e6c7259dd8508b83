"""What a name means at a place of a query: tables in FROM, CTEs above, lambda parameters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from nilometer.query.sql.properties import NONE, Owners


@dataclass(frozen=True, slots=True)
class Scope:
    """The names that one place sees. Names are compared exactly, as the engine does.

    `ctes` are the common table expressions by name, each as the SQL it was compiled to: one is
    written out where it is used, so what runs has no name of a table that the user wrote.
    `scalars` are `WITH value AS name`, to be repeated by each part of a UNION. `owners` are the
    tables of FROM whose `properties` have columns.

    `columns` are those of the tables of FROM by alias, `from_columns` those of all of them. `names`
    is every name that may stand alone here; `own` are those that this very SELECT defines.
    `moments` are columns that are times for certain (see `moments`, the module).
    """

    ctes: Mapping[str, str] = field(default_factory=dict[str, str])
    aliases: frozenset[str] = frozenset()
    parameters: frozenset[str] = frozenset()
    scalars: tuple[str, ...] = ()
    depth: int = 0
    owners: Owners = NONE
    columns: Mapping[str, frozenset[str]] = field(default_factory=dict[str, frozenset[str]])
    from_columns: frozenset[str] = frozenset()
    cte_columns: Mapping[str, frozenset[str]] = field(default_factory=dict[str, frozenset[str]])
    names: frozenset[str] = frozenset()
    own: frozenset[str] = frozenset()
    moments: frozenset[str] = frozenset()

    def with_cte(self, name: str, sql: str, columns: frozenset[str]) -> Scope:
        """This scope below the definition of a CTE, which hides an earlier one of its name."""
        cte_columns = {**self.cte_columns, name: columns}
        return replace(self, ctes={**self.ctes, name: sql}, cte_columns=cte_columns)

    def with_tables(
        self,
        tables: Iterable[tuple[str | None, frozenset[str]]],
        owners: Owners = NONE,
        moments: frozenset[str] = frozenset(),
    ) -> Scope:
        """This scope with the tables of a FROM: the alias and the columns of each."""
        given = list(tables)
        named = {alias: columns for alias, columns in given if alias}
        known = replace(
            self,
            aliases=self.aliases | named.keys(),
            owners=owners,
            moments=moments,
            columns={**self.columns, **named},
            from_columns=self.from_columns.union(*(columns for _, columns in given)),
        )
        return known.with_names(known.from_columns, known.from_columns)

    def with_names(self, names: frozenset[str], own: frozenset[str] = frozenset()) -> Scope:
        """This scope with more names, of which these are this SELECT's own."""
        return replace(self, names=self.names | names, own=self.own | own)

    def with_parameters(self, names: Iterable[str]) -> Scope:
        """This scope inside a lambda."""
        given = frozenset(names)
        inside = replace(self, parameters=self.parameters | given, moments=frozenset())
        return inside.with_names(given, given)

    def with_scalar(self, sql: str) -> Scope:
        """This scope below `WITH value AS name`."""
        return replace(self, scalars=(*self.scalars, sql))

    def inner(self) -> Scope:
        """The scope of a query inside this one: CTEs and names stay visible, tables do not."""
        return Scope(
            ctes=self.ctes,
            cte_columns=self.cte_columns,
            parameters=self.parameters,
            depth=self.depth + 1,
            names=self.names,
        )
