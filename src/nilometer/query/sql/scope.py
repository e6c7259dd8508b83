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
    """

    ctes: Mapping[str, str] = field(default_factory=dict[str, str])
    aliases: frozenset[str] = frozenset()
    parameters: frozenset[str] = frozenset()
    scalars: tuple[str, ...] = ()
    depth: int = 0
    owners: Owners = NONE

    def with_cte(self, name: str, sql: str) -> Scope:
        """This scope below the definition of a CTE, which hides an earlier one of its name."""
        return replace(self, ctes={**self.ctes, name: sql})

    def with_aliases(self, names: Iterable[str], owners: Owners = NONE) -> Scope:
        """This scope with the tables of a FROM."""
        return replace(self, aliases=self.aliases | frozenset(names), owners=owners)

    def with_parameters(self, names: Iterable[str]) -> Scope:
        """This scope inside a lambda."""
        return replace(self, parameters=self.parameters | frozenset(names))

    def with_scalar(self, sql: str) -> Scope:
        """This scope below `WITH value AS name`."""
        return replace(self, scalars=(*self.scalars, sql))

    def inner(self) -> Scope:
        """The scope of a query inside this one: CTEs stay visible, tables do not."""
        return Scope(ctes=self.ctes, parameters=self.parameters, depth=self.depth + 1)
