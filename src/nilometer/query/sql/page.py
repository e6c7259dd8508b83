"""The tables and functions of `docs/sql.md`, as Markdown."""

from __future__ import annotations

from nilometer.query.sql.functions import (
    AGGREGATES,
    ALIASES,
    COMBINATORS,
    FUNCTIONS,
    SYNONYMS,
)
from nilometer.query.sql.tables import TABLES, VirtualTable


def tables() -> str:
    """Every virtual table with its columns."""
    return "\n\n".join(_table(table) for table in TABLES.values())


def functions() -> str:
    """Every function, by its group."""
    suffixes = ", ".join(f"`-{name}`" for name in COMBINATORS)
    groups = {**FUNCTIONS, "Aggregates": AGGREGATES}
    listed = [f"**{group}**: {' '.join(f'`{name}`' for name in groups[group])}" for group in groups]
    second = " ".join(
        f"`{alias}`" for alias in sorted({*ALIASES, *SYNONYMS, "dayName"}, key=str.lower)
    )
    return "\n\n".join(
        [*listed, f"Aggregates also with {suffixes}.", f"Second names of some of them: {second}."]
    )


def _table(table: VirtualTable) -> str:
    rows = "\n".join(
        f"| `{column.name}` | {column.type} | {column.description} |" for column in table.columns
    )
    return (
        f"### `{table.name}`\n\n{table.description}\n\n| Column | Type | |\n|---|---|---|\n{rows}"
    )
