"""`nilometer report`: who spent what, as a table, or a file to pass on."""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nilometer.cli import report_table
from nilometer.cli.app import app
from nilometer.cli.client import DEFAULT_URL, OWN_PROJECT, Key, Project, Url
from nilometer.cli.usage_source import PricesFile, SourceUrl, Where, day, filters, opened
from nilometer.cli.whole_file import written_whole
from nilometer.domain import clock
from nilometer.errors import InvalidInput

if TYPE_CHECKING:
    from nilometer.usage.report.making import Wanted
    from nilometer.usage.report.report import Report

_DAYS = 30


class Format(StrEnum):
    """How a report is written."""

    TABLE = "table"
    MARKDOWN = "md"
    HTML = "html"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


class Compared(StrEnum):
    """What a period is compared with."""

    PREVIOUS = "previous"
    NONE = "none"


@app.command("report")
def report(
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="DAY", help="The first day, UTC: 2026-11-01, or 30d ago."),
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", metavar="DAY", help="The last day, included; today.")
    ] = None,
    group_by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LEVELS",
            help="A table by a level, or by up to four combined: `job` or `user,model`. Repeat for "
            "several tables. By default service, model, job and user.",
        ),
    ] = None,
    where: Where = None,
    compare: Annotated[
        Compared, typer.Option(help="The same number of days before, or nothing.")
    ] = Compared.PREVIOUS,
    output_format: Annotated[Format, typer.Option("--format", help="How.")] = Format.TABLE,
    output: Annotated[
        Path | None, typer.Option(help="A file in place of standard output.", dir_okay=False)
    ] = None,
    top: Annotated[
        int, typer.Option(min=1, max=10_000, help="Lines of a table; the others are summed up.")
    ] = 20,
    savings: Annotated[
        bool,
        typer.Option(
            "--savings/--no-savings",
            help="Say what caches and batches saved: DynamoDB is then read call by call.",
        ),
    ] = True,
    source: SourceUrl = None,
    prices_file: PricesFile = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    project: Project = OWN_PROJECT,
) -> None:
    """Report what was spent: by any levels, trend, movers, savings, unpriced and failed calls."""
    from nilometer.usage.report import making

    wanted = replace(_wanted(start, end, group_by, where, compare), savings=savings)
    since = making.earliest(wanted)
    with opened(source, url, key, project, since=since, prices_file=prices_file) as found:
        made = making.make(found, wanted)
    emit(made, output_format, output, top)


def emit(made: Report, output_format: Format, output: Path | None, top: int) -> None:
    """Show a report, or write it to a file or to standard output. Raises InvalidInput."""
    if output_format is Format.TABLE and output is None:
        report_table.show(made, top)
        return
    written = _written(made, output_format, top)
    if output is not None:
        with written_whole(output) as file:
            file.write(written)
        return
    if output_format is Format.PARQUET and sys.stdout.isatty():
        raise InvalidInput("a terminal cannot show this format; give --output FILE")
    sys.stdout.flush()
    sys.stdout.buffer.write(written)
    sys.stdout.buffer.flush()


def _wanted(
    start: str | None,
    end: str | None,
    group_by: list[str] | None,
    where: list[str] | None,
    compare: Compared,
) -> Wanted:
    from nilometer.usage.report.making import DEFAULT_TABLES, Wanted, levels_of
    from nilometer.usage.report.report import Period

    last = day(end, "--to", clock.now().date())
    first = day(start, "--from", last - timedelta(days=_DAYS - 1))
    if first > last:
        raise InvalidInput(f"--from {first} is after --to {last}")
    tables = tuple(dict.fromkeys(map(levels_of, group_by))) if group_by else DEFAULT_TABLES
    return Wanted(Period(first, last), tables, filters(where), compare is Compared.PREVIOUS)


def _written(made: Report, output_format: Format, top: int) -> bytes:
    """The report in a form, as bytes. Modules of a form are loaded with it."""
    match output_format:
        case Format.TABLE:
            return report_table.text(made, top).encode()
        case Format.MARKDOWN:
            from nilometer.usage.report.markdown import to_markdown

            return to_markdown(made, top)
        case Format.HTML:
            from nilometer.usage.report.page import to_html

            return to_html(made, top)
        case Format.JSON:
            from nilometer.usage.report.document import to_json

            return to_json(made)
        case _:
            from nilometer.usage.report import rows

            return rows.to_csv(made) if output_format is Format.CSV else rows.to_parquet(made)
