"""Every read of the store goes through here: this adds the project, the limits and `FINAL`.

No statement of this room writes `FROM` itself, so none can forget whose rows it may see. `FINAL`
makes a read exact while a redelivered copy of a row is not merged away yet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from nilometer.clickhouse.store import Store

Table = Literal["events", "event_ids", "calls"]

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
    """A read of one table within one project. `tail` is what follows WHERE (GROUP BY, ORDER BY).
    `summed` is what a SELECT around it shows, and what follows its FROM; these rows are `best`.
    `every_copy` also reads rows whose place an equal one has taken."""

    columns: str
    table: Table
    where: Sequence[Condition] = ()
    tail: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict[str, Any])
    summed: tuple[str, str] | None = None
    every_copy: bool = False


class Reader:
    """Runs reads, each within one project. Safe to use from several threads."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def rows(self, project_id: int, select: Select) -> list[dict[str, Any]]:
        """The rows as dictionaries by column name. Raises the store's errors."""
        conditions = [Condition("project_id = {project_id:Int64}", {"project_id": project_id})]
        conditions += select.where
        sql = (
            f"SELECT {select.columns} "  # noqa: S608  (our own texts)
            f"FROM {select.table} {'' if select.every_copy else 'FINAL'} "
            f"WHERE {' AND '.join(condition.sql for condition in conditions)} {select.tail}"
        )
        if select.summed is not None:
            shown, tail = select.summed
            sql = f"SELECT {shown} FROM ({sql}) AS best {tail}"  # noqa: S608  (our own texts)
        parameters = _merged(conditions, select.parameters)
        return self._store.query(sql, parameters, settings=LIMITS).dicts()


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
