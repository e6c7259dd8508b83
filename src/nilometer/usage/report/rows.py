"""A report as one table of rows, for CSV and Parquet: every line of every table, and the trend."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from decimal import Decimal
from importlib import import_module
from typing import Any

from nilometer.errors import ConfigurationError, InvalidInput
from nilometer.usage.dimensions import DIMENSIONS
from nilometer.usage.report.report import Figures, Line, Report, money

MONEY = ("cost_usd", "previous_cost_usd", "change_usd")
COUNTS = ("calls", "api_calls", "errors", "unpriced", "tokens", "previous_calls")
SECONDS = ("latency_p50", "latency_p95")
COLUMNS = ("table", *DIMENSIONS, *MONEY, "change_percent", *COUNTS, *SECONDS)
"""What every report has; its own levels, if there are any, come after `table`. That is `total`,
`trend`, or the levels of a table; a level that a row does not have is empty. A row of a table that
has none of its levels is what has no value of one of them."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
_DIGITS, _DECIMALS = 38, 18

Row = dict[str, Any]


def columns(report: Report) -> tuple[str, ...]:
    """The columns of a report."""
    return ("table", *_levels(report), *COLUMNS[1 + len(DIMENSIONS) :])


def _levels(report: Report) -> tuple[str, ...]:
    named = dict.fromkeys(name for table in report.tables for name in table.levels)
    return (*(name for name in named if name not in DIMENSIONS), *DIMENSIONS)


def rows(report: Report) -> Iterable[Row]:
    """The rows: amounts as Decimal, None for what is not known."""
    yield _row("total", (), report.total)
    levels = {"hour": ("day", "hour")}.get(report.step, ("day",))
    for line in report.trend:
        yield _row("trend", levels, line)
    for table in report.tables:
        name = ",".join(table.levels)
        for line in table.lines:
            yield _row(name, table.levels, line)
        if table.rest.now.calls:
            yield _row(name, (), table.rest)


def _row(name: str, levels: Iterable[str], line: Line) -> Row:
    before = line.before
    found: Row = dict.fromkeys(COLUMNS)
    found |= {"table": name, **dict(zip(levels, line.key, strict=True))}
    found |= _figures(line.now)
    if before is not None:
        found |= {"previous_cost_usd": before.cost, "previous_calls": before.calls}
        found |= {"change_usd": line.change, "change_percent": line.percent}
    return found


def _figures(figures: Figures) -> Row:
    return {
        "cost_usd": figures.cost,
        "calls": figures.calls,
        "api_calls": figures.requests,
        "errors": figures.errors,
        "unpriced": figures.unpriced,
        "tokens": figures.tokens,
        "latency_p50": figures.p50,
        "latency_p95": figures.p95,
    }


def to_csv(report: Report) -> bytes:
    """CSV with a line of names, UTF-8. A text that a spreadsheet would take for a formula begins
    with an apostrophe; amounts are exact decimal text."""
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\r\n")
    names = columns(report)
    writer.writerow(names)
    for row in rows(report):
        writer.writerow([_cell(row.get(name)) for name in names])
    return file.getvalue().encode()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, Decimal):
        return money(value) or ""
    if isinstance(value, str):
        # A blank before the sign is skipped by some programs.
        return f"'{value}" if value.lstrip(" ").startswith(_FORMULA) else value
    return str(value)


def to_parquet(report: Report) -> bytes:
    """Parquet: amounts are decimal128(38, 18), so exact. Raises ConfigurationError where pyarrow is
    not installed, and InvalidInput for an amount that does not fit."""
    try:
        arrow: Any = import_module("pyarrow")
        parquet: Any = import_module("pyarrow.parquet")
    except ModuleNotFoundError:
        raise ConfigurationError(
            'Parquet needs pyarrow: pip install "nilometer[parquet]"'
        ) from None
    fields = [arrow.field("table", arrow.string(), nullable=False)]
    fields += [arrow.field(name, arrow.string()) for name in _levels(report)]
    fields += [arrow.field(name, arrow.decimal128(_DIGITS, _DECIMALS)) for name in MONEY]
    fields.append(arrow.field("change_percent", arrow.decimal128(_DIGITS, 1)))
    fields += [arrow.field(name, arrow.int64()) for name in COUNTS]
    fields += [arrow.field(name, arrow.float64()) for name in SECONDS]
    try:
        table = arrow.Table.from_pylist(list(rows(report)), schema=arrow.schema(fields))
    except (arrow.ArrowInvalid, OverflowError):
        raise InvalidInput("an amount or a count is too large for Parquet's columns") from None
    sink = arrow.BufferOutputStream()
    parquet.write_table(table, sink, compression="zstd")
    return sink.getvalue().to_pybytes()
