"""`nilometer migrate-data`: from one machine to the servers of the distributed profile."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing, contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nilometer.cli.app import app
from nilometer.cli.output import show_json, show_table
from nilometer.errors import InvalidInput

if TYPE_CHECKING:
    from rich.progress import TaskID

    from nilometer.migrate_data.move import Move
    from nilometer.migrate_data.report import Comparison, Progress, Report


class Form(StrEnum):
    """How the result is printed."""

    TEXT = "text"
    JSON = "json"


@app.command("migrate-data")
def migrate_data(
    source: Annotated[
        Path, typer.Option("--from", help="The data directory of the embedded server.")
    ],
    blobs_from: Annotated[
        str | None,
        typer.Option(help="Where that server keeps blobs, if not in its data directory."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what there is to move; change nothing.")
    ] = False,
    verify_only: Annotated[
        bool, typer.Option("--verify-only", help="Compare both sides; change nothing.")
    ] = False,
    form: Annotated[Form, typer.Option("--format", help="How the result is printed.")] = Form.TEXT,
) -> None:
    """Move a data directory to the servers of the distributed profile.

    The target is what `nilometer serve` of that profile would use: NILOMETER_DATABASE_URL,
    NILOMETER_CLICKHOUSE_URL, NILOMETER_KAFKA_BOOTSTRAP_SERVERS, NILOMETER_BLOBS_URL and the rest.
    The source's server must be stopped; nothing of the source is changed. Run it again after
    whatever ended it, until it says that all is there.
    """
    from nilometer import failpoints, settings
    from nilometer.migrate_data.move import Move

    if dry_run and verify_only:
        raise InvalidInput("--dry-run and --verify-only exclude each other")
    in_effect = settings.load(profile=settings.Profile.DISTRIBUTED)
    failpoints.configure(in_effect.failpoints)
    with closing(Move(source, in_effect, blobs_from)) as move:
        report = move.plan() if dry_run else _carried_out(move, verify_only=verify_only)
    if form is Form.JSON:
        show_json(_document(report))
    else:
        _show(report, planned=dry_run)
    if not report.fine:
        raise typer.Exit(1)


def _carried_out(move: Move, *, verify_only: bool) -> Report:
    with _bars() as progress:
        return move.verify(progress) if verify_only else move.run(progress)


@contextmanager
def _bars() -> Generator[Progress]:
    """A bar a step, on stderr: what is printed stays what can be read by a program."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Bars(*columns, console=Console(stderr=True)) as bars:
        yield _Bars(bars)


class _Bars:
    """Rich's bars as `Progress`."""

    def __init__(self, bars: Any) -> None:
        self._bars = bars
        self._step: TaskID | None = None

    def begin(self, step: str, total: int) -> None:
        """A new bar; one without a known end only shows that it moves."""
        if self._step is not None:
            done = next(each for each in self._bars.tasks if each.id == self._step)
            self._bars.update(self._step, total=done.completed, completed=done.completed)
        self._step = self._bars.add_task(step, total=total or None)

    def advance(self, count: int) -> None:
        """Move the bar."""
        if self._step is not None:
            self._bars.advance(self._step, count)


def _show(report: Report, *, planned: bool) -> None:
    if planned:
        show_table(("what", "count"), [(name, f"{n:,}") for name, n in report.moved.items()])
        typer.echo(_PLANNED[report.state])
        return
    if report.comparisons:
        columns = ("part", "what", "project", "source", "target", "checksum", "")
        show_table(columns, [_row(each) for each in report.comparisons])
    if report.moved:
        told = ", ".join(f"{count:,} to the {part}" for part, count in report.moved.items())
        typer.echo(f"Written by this run: {told}.")
    if not report.fine:
        typer.echo("The target differs from the source where it says so.")
        if report.state == "begun":
            typer.echo(_UNMENDED)
    elif report.state == "finished":
        typer.echo(f"All of it is there since {report.finished_at:%Y-%m-%d %H:%M:%S} UTC.")


_UNMENDED = (
    "What another run does not mend was changed since the move began, in the source or in the "
    "target: empty the target (database, ClickHouse, topic and bucket) and move again."
)
_PLANNED = {
    "new": "The target is empty and can be reached. Nothing was changed.",
    "begun": "A move from there has begun and is not finished. Nothing was changed.",
    "finished": "All of it was moved already. Nothing was changed.",
}


def _row(each: Comparison) -> tuple[object, ...]:
    said = "equal" if each.equal else "changed" if each.excused else "DIFFERS"
    checksum = each.source.text if each.equal else f"{each.source.text} {each.target.text}"
    note = f"{said} ({each.note})" if each.note else said
    counts = (f"{each.source.count:,}", f"{each.target.count:,}")
    return (each.part, each.name, each.project_id, *counts, checksum, note)


def _document(report: Report) -> dict[str, object]:
    return {
        "state": report.state,
        "finished_at": report.finished_at.isoformat() if report.finished_at else None,
        "equal": report.fine,
        "counts": report.moved,
        "compared": [
            {
                "part": each.part,
                "name": each.name,
                "project_id": each.project_id,
                "source": {"count": each.source.count, "checksum": each.source.text},
                "target": {"count": each.target.count, "checksum": each.target.text},
                "equal": each.equal,
                "excused": each.excused,
                "note": each.note,
            }
            for each in report.comparisons
        ],
    }
