"""`nilometer usage`: what is being spent, as it is spent."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nilometer.cli.client import DEFAULT_URL, OWN_PROJECT, AsJson, Key, Project, Url
from nilometer.cli.output import console, show_json
from nilometer.cli.report_table import grid, measures
from nilometer.cli.usage_source import SourceUrl, Where, filters, opened
from nilometer.domain import clock
from nilometer.errors import Unavailable

if TYPE_CHECKING:
    from rich.console import Group

    from nilometer.usage.report.report import Figures, Table
    from nilometer.usage.report.sources import Source

By = Annotated[
    str, typer.Option(metavar="LEVELS", help="A level, or up to four combined: `user,model`.")
]
Days = Annotated[
    int, typer.Option(min=1, max=366, help="So many days, today included; UTC's days.")
]
Interval = Annotated[
    float, typer.Option(min=0.2, max=3600, help="Seconds between two looks at the source.")
]
Once = Annotated[
    bool, typer.Option("--once", help="Show it once and end, as is done where no terminal is.")
]
Top = Annotated[int, typer.Option(min=1, max=10_000, help="Lines; the others are summed up.")]


@dataclass(frozen=True, slots=True)
class View:
    """What is looked at."""

    levels: tuple[str, ...]
    days: int
    filters: dict[str, str]
    top: int


@dataclass(frozen=True, slots=True)
class Reading:
    """What a source said at a moment (of a clock that only goes forward)."""

    first: date
    last: date
    total: Figures
    table: Table
    at: float


def live(
    by: By = "service,model",
    days: Days = 1,
    where: Where = None,
    interval: Interval = 2.0,
    once: Once = False,
    top: Top = 20,
    source: SourceUrl = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    project: Project = OWN_PROJECT,
    as_json: AsJson = False,
) -> None:
    """Show what is being spent: today's total and the costliest lines, again and again, until
    Ctrl-C. Piped, with --once or with --json it is shown once."""
    from nilometer.usage.report.making import levels_of

    view = View(levels_of(by), days, filters(where), top)
    # A watch that goes on past midnight asks for later days only.
    since = clock.now().date() - timedelta(days=days - 1)
    with opened(source, url, key, project, since=since) as found:
        if as_json:
            show_json(_document(view, read(found, view)))
        elif once or not sys.stdout.isatty():
            console().print(_shown(found.name, view, read(found, view), None))
        else:
            _watch(found, view, interval)


def read(source: Source, view: View) -> Reading:
    """What the source says now. Raises NilometerError."""
    from nilometer.usage.report import making
    from nilometer.usage.report.report import Period

    last = clock.now().date()
    first = last - timedelta(days=view.days - 1)
    wanted = making.Wanted(Period(first, last), (view.levels,), view.filters, compare=False)
    total, [table] = making.spend(source, wanted)
    return Reading(first, last, total, table, time.monotonic())


def _watch(source: Source, view: View, interval: float) -> None:
    from rich.live import Live

    begun = latest = read(source, view)
    trouble = ""
    with Live(
        _shown(source.name, view, begun, None), console=console(), auto_refresh=False, screen=True
    ) as screen:
        try:
            while True:
                time.sleep(interval)
                try:
                    latest, trouble = read(source, view), ""
                except Unavailable as error:
                    trouble = error.detail
                if latest.first != begun.first:  # another day: nothing to compare with
                    begun = latest
                screen.update(_shown(source.name, view, latest, begun, trouble), refresh=True)
        except KeyboardInterrupt:
            return


def _shown(
    name: str, view: View, reading: Reading, begun: Reading | None, trouble: str = ""
) -> Group:
    from rich.console import Group
    from rich.text import Text

    from nilometer.usage.report import wording
    from nilometer.usage.report.report import Period

    total = reading.total
    scope = "".join(f", {each} {value}" for each, value in view.filters.items())
    heading = f"{wording.days(Period(reading.first, reading.last))} (UTC){scope}, from {name}"
    counts = (
        f"{total.calls:,} calls, {total.tokens:,} tokens, {total.errors:,} failed, "
        f"{total.unpriced:,} unpriced"
    )
    lines, others = reading.table.split(view.top)
    blank = [""] * (len(view.levels) - 1)
    rows = [[*wording.key(line), *measures(line, total)] for line in lines]
    if others:
        rows.append([others.key[0], *blank, *measures(others, total)])
    if reading.table.rest.now.calls:
        told = f"without {' or '.join(view.levels)}"
        rows.append([told, *blank, *measures(reading.table.rest, total)])
    names = [*view.levels, "cost", "share", "calls", "failed", "unpriced", "tokens"]
    parts = [
        Text(wording.visible(heading), style="bold"),
        Text(wording.exact(total.cost), style="bold green"),
        Text(counts),
        *([Text(_pace(begun, reading), style="cyan")] if begun else []),
        *([Text(wording.visible(trouble), style="red")] if trouble else []),
    ]
    return Group(*parts, grid(names, rows, texts=len(view.levels)))


def _pace(begun: Reading, reading: Reading) -> str:
    """What was spent since the watch began, and how fast."""
    from nilometer.usage.report import wording
    from nilometer.usage.report.report import difference

    spent = difference(reading.total, begun.total)
    minutes = (reading.at - begun.at) / 60
    if spent is None or minutes <= 0:
        return "since you look: unknown"
    pace = spent / Decimal(minutes)
    return (
        f"since you look: {wording.headline(spent)} in {minutes * 60:.0f} s, "
        f"{wording.headline(pace)} a minute"
    )


def _document(view: View, reading: Reading) -> dict[str, Any]:
    from nilometer.usage.report.document import of_figures, of_line

    return {
        "period": {"start": reading.first.isoformat(), "end": reading.last.isoformat()},
        "filters": view.filters,
        "total": of_figures(reading.total),
        "levels": list(view.levels),
        "lines": [of_line(view.levels, line) for line in reading.table.lines],
        "without": of_line((), reading.table.rest),
    }
