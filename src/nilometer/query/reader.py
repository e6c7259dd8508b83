"""Every read of the store goes through here: this adds the project, the limits and `FINAL`.

No statement of this room writes `FROM` itself, so none can forget whose rows it may see. `FINAL`
makes a read exact while a redelivered copy of a row is not merged away yet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from nilometer.clickhouse.store import Store

Table = Literal["events", "event_ids", "calls", "usage_days"]

# One read may cost so much and no more; over it the engine stops and the caller hears so.
MAX_SECONDS = 10
MAX_MEMORY = 1024**3
LIMITS: Mapping[str, Any] = {"max_execution_time": MAX_SECONDS, "max_memory_usage": MAX_MEMORY}


@dataclass(frozen=True, slots=True)
class Condition:
    """A part of a WHERE or HAVING, with the values that it binds (`{name:Type}`)."""

    sql: str
    parameters: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Select:
    """A read of one table within one project. `join` is what precedes WHERE (ARRAY JOIN), `tail`
    what follows it (GROUP BY, ORDER BY), and `early` is for what equal rows have in common: it is
    looked at before one of them is taken. `around` are the SELECTs around it, each with what it
    shows and what follows its FROM. `every_copy` also reads rows whose place an equal one has
    taken."""

    columns: str
    table: Table
    where: Sequence[Condition] = ()
    tail: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict[str, Any])
    around: Sequence[tuple[str, str]] = ()
    every_copy: bool = False
    join: str = ""
    early: Sequence[Condition] = ()


class Reader:
    """Runs reads, each within one project. Safe to use from several threads."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def rows(self, project_id: int, select: Select) -> list[dict[str, Any]]:
        """The rows as dictionaries by column name. Raises the store's errors."""
        sql, parameters = statement(project_id, select)
        return self._store.query(sql, parameters, settings=LIMITS).dicts()

    def insert(self, project_id: int, into: str, select: Select) -> None:
        """Store the rows in a table, named with its columns. Raises the store's errors."""
        sql, parameters = statement(project_id, select)
        limits = ", ".join(f"{name} = {value}" for name, value in LIMITS.items())
        self._store.command(f"INSERT INTO {into} {sql} SETTINGS {limits}", parameters)


def statement(project_id: int, select: Select) -> tuple[str, dict[str, Any]]:
    """The text of a read, and what it binds."""
    conditions = [Condition("project_id = {project_id:Int64}", {"project_id": project_id})]
    conditions += select.where
    early = " AND ".join(condition.sql for condition in select.early)
    sql = (
        f"SELECT {select.columns} "  # noqa: S608  (our own texts)
        f"FROM {select.table} {'' if select.every_copy else 'FINAL'} {select.join} "
        f"{early and f'PREWHERE {early}'} "
        f"WHERE {' AND '.join(condition.sql for condition in conditions)} {select.tail}"
    )
    for shown, tail in select.around:
        sql = f"SELECT {shown} FROM ({sql}) AS best {tail}"  # noqa: S608  (our own texts)
    return sql, _merged([*conditions, *select.early], select.parameters)


def among(column: str, table: Table, condition: Condition) -> Condition:
    """The rows whose column some row of the table has for which the condition holds."""
    return Condition(
        f"{column} IN (SELECT {column} FROM {table} "  # noqa: S608  (our own texts)
        f"WHERE project_id = {{project_id:Int64}} AND {condition.sql})",
        condition.parameters,
    )


def moment(sql: str, name: str, micros: int) -> Condition:
    """A comparison with a moment in microseconds: `moment("timestamp >=", "after", 0)`."""
    return Condition(f"{sql} fromUnixTimestamp64Micro({{{name}:Int64}}, 'UTC')", {name: micros})


def equal(column: str, name: str, value: str) -> Condition:
    """A comparison of a text column with a value."""
    return Condition(f"{column} = {{{name}:String}}", {name: value})


def _merged(conditions: Sequence[Condition], parameters: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(parameters)
    for condition in conditions:
        if merged.keys() & condition.parameters.keys():
            raise ValueError(f"two conditions bind one name: {sorted(condition.parameters)}")
        merged |= condition.parameters
    return merged
