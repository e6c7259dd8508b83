"""Rows of the store as Arrow's tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime
from decimal import Decimal
from itertools import islice
from typing import Any

from nilometer.errors import InvalidInput
from nilometer.importers.parquet.arrow import arrow
from nilometer.importers.store import columns
from nilometer.importers.store.columns import EXPORTED, Exported

BATCH_ROWS = 20_000
_DIGITS, _DECIMALS = 38, 18
_READ: dict[str, Callable[[Any], Any]] = {
    columns.MONEY: Decimal,
    columns.FLAG: bool,
    columns.DAY: date.fromisoformat,
    columns.MOMENT: datetime.fromisoformat,
}


def schema() -> Any:
    """Arrow's schema of a file: amounts are decimal128(38, 18), so exact."""
    return arrow().schema(
        [
            arrow().field(column.name, _type(column.kind), nullable=not column.required)
            for column in EXPORTED
        ]
    )


def tables(rows: Iterable[Exported]) -> Iterable[Any]:
    """The rows, in tables of so many that memory stays flat."""
    left = iter(rows)
    while batch := list(islice(left, BATCH_ROWS)):
        yield table(batch)


def table(rows: Sequence[Exported]) -> Any:
    """The rows as one table. Raises InvalidInput for a value that its column cannot hold."""
    arrays: list[Any] = []
    try:
        for column, values in zip(EXPORTED, zip(*rows, strict=True), strict=True):
            arrays.append(arrow().array(_values(column.kind, values), _type(column.kind)))
    except (ValueError, OverflowError, ArithmeticError, TypeError) as error:
        raise InvalidInput(f"a call cannot be written to Parquet: {error}") from None
    return arrow().Table.from_arrays(arrays, schema=schema())


def _values(kind: str, values: Sequence[Any]) -> Sequence[Any]:
    """As Arrow takes them, from what SQLite has."""
    read = _READ.get(kind)
    if read is None:
        return values
    return [None if value is None else read(value) for value in values]


def _type(kind: str) -> Any:
    match kind:
        case columns.WHOLE:
            return arrow().int64()
        case columns.REAL:
            return arrow().float64()
        case columns.MONEY:
            return arrow().decimal128(_DIGITS, _DECIMALS)
        case columns.FLAG:
            return arrow().bool_()
        case columns.DAY:
            return arrow().date32()
        case columns.MOMENT:
            return arrow().timestamp("us", "UTC")
        case _:
            return arrow().string()
