"""`nilometer traces report`, `show`, `export` and `verify`: what a database of traces holds."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nilometer.cli.output import show_json, show_table, visible
from nilometer.cli.report import Format, emit
from nilometer.cli.traces_ingest import DB, Db
from nilometer.cli.usage_source import day
from nilometer.cli.whole_file import written_whole
from nilometer.domain import clock
from nilometer.errors import InvalidInput

if TYPE_CHECKING:
    from nilometer.importers.store import TraceStore

_BY = ("developer", "repo", "model", "session", "day")


def report(
    by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LEVELS",
            help=f"A table by a level ({', '.join(_BY)} …) or by up to four combined: "
            "`repo,model`. Repeat for several tables. By default model, developer and repo.",
        ),
    ] = None,
    start: Annotated[
        str | None, typer.Option("--from", metavar="DAY", help="The first day, UTC; or 30d ago.")
    ] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="DAY", help="The last day.")] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="LEVEL=VALUE", help="Only calls with exactly this value."),
    ] = None,
    output_format: Annotated[Format, typer.Option("--format", help="How.")] = Format.TABLE,
    output: Annotated[
        Path | None, typer.Option(help="A file in place of standard output.", dir_okay=False)
    ] = None,
    top: Annotated[int, typer.Option(min=1, max=10_000, help="Lines of a table.")] = 20,
    db: Db = DB,
) -> None:
    """Report what the calls of a database cost."""
    from nilometer.importers import report as reports

    tables = [reports.levels_of(each) for each in by or ("model", "developer", "repo")]
    asked = reports.Asked(
        tuple(dict.fromkeys(tables)),
        day(start, "--from", clock.now().date()) if start else None,
        day(end, "--to", clock.now().date()) if end else None,
        _filters(where),
    )
    with _existing(db) as store:
        made = reports.make(store, asked)
    emit(made, output_format, output, top)


def show(
    session: Annotated[str, typer.Argument(metavar="SESSION")],
    output: Annotated[
        Path | None, typer.Option(help="A file in place of standard output.", dir_okay=False)
    ] = None,
    db: Db = DB,
) -> None:
    """Show one session as Markdown: the same calls give the same bytes."""
    from nilometer.importers.session_page import to_markdown

    with _existing(db) as store:
        page = to_markdown(store, session)
    if output is None:
        sys.stdout.flush()
        sys.stdout.buffer.write(page)
        sys.stdout.buffer.flush()
        return
    with written_whole(output) as file:
        file.write(page)


def export(
    parquet: Annotated[Path, typer.Option("--parquet", metavar="DIR", help="The folder.")],
    db: Db = DB,
) -> None:
    """Write every call to Parquet files by repository and day. Files that are there are kept up."""
    from nilometer.importers.parquet import export as exports

    with _existing(db) as store:
        done = exports.export(store, parquet, everything=True)
    typer.echo(f"{done.files:,} files of {done.calls:,} calls are in {visible(str(parquet))}")


def verify(
    parquet: Annotated[
        Path | None, typer.Option("--parquet", metavar="DIR", help="Its export, too.")
    ] = None,
    db: Db = DB,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Check that a database, and an export of it, are whole and say what adds up. Exits with 1
    where they are not."""
    from nilometer.importers.verifying import verify as verified

    with _existing(db) as store:
        found = verified(store, parquet)
    if as_json:
        show_json({"calls": found.calls, "faults": found.counts, "examples": found.examples})
    elif found.counts:
        rows = [(name, count, found.examples[name]) for name, count in found.counts.items()]
        show_table(("fault", "calls", "first"), rows)
    else:
        typer.echo(f"{found.calls:,} calls, and all is as it should be")
    if found.counts:
        raise typer.Exit(1)


def _existing(db: Path) -> TraceStore:
    from nilometer.importers.store import TraceStore

    return TraceStore(db, create=False)


def _filters(given: list[str] | None) -> dict[str, str]:
    from nilometer.importers.report import ALIASES, LEVELS

    found: dict[str, str] = {}
    for each in given or []:
        told, equals, value = each.partition("=")
        name = ALIASES.get(told, told)
        if not equals or name not in LEVELS or name in found:
            raise InvalidInput(f"--where takes LEVEL=VALUE, each once: {', '.join(LEVELS)}")
        found[name] = value
    return found
