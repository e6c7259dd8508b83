"""A report in the terminal."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import TYPE_CHECKING

from nilometer.cli.output import console
from nilometer.usage.report import wording
from nilometer.usage.report.report import Figures, Line, Report, Table

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table as Grid

_SPARKS = "▁▂▃▄▅▆▇█"
_FILE_WIDTH = 160


def show(report: Report, top: int) -> None:
    """Print it."""
    _print(console(), report, top)


def text(report: Report, top: int) -> str:
    """As `show`, for a file."""
    from rich.console import Console

    file = io.StringIO()
    _print(Console(file=file, width=_FILE_WIDTH, highlight=False), report, top)
    return file.getvalue()


def _print(screen: Console, report: Report, top: int) -> None:
    for each in _parts(report, top):
        screen.print(each)


def _parts(report: Report, top: int) -> Iterable[RenderableType]:
    from rich.text import Text

    yield Text(wording.visible(_heading(report)), style="bold")
    yield Text.assemble(
        (wording.exact(report.total.now.cost), "bold green"),
        *([f"  {wording.change(report.total)} against {wording.days(report.previous)}"]
          if report.previous else []),
    )  # fmt: skip
    yield Text(_counts(report))
    yield Text(f"{_sparks(report)}  by {report.step}", style="cyan")
    for table in report.tables:
        yield _table(report, table, top)
    yield from _movers(report)
    for name, amount, of in wording.savings(report):
        yield Text.assemble((f"{name}: ", ""), (wording.exact(amount), "bold"), f" ({of})")
    for note in report.notes:
        yield Text(wording.visible(note), style="dim")


def _heading(report: Report) -> str:
    scope = wording.scope(report)
    return f"{wording.title(report)}{f', only {scope}' if scope else ''}, from {report.source}"


def _counts(report: Report) -> str:
    now = report.total.now
    return (
        f"{now.calls:,} calls, {now.tokens:,} tokens, {now.errors:,} failed "
        f"({report.error_share or 0} %), {now.unpriced:,} unpriced ({report.price_share or 0} %)"
    )


def _sparks(report: Report) -> str:
    costs = [float(line.now.cost or 0) for line in report.trend]
    most = max(costs, default=0.0)
    return "".join(_SPARKS[int(cost / most * 7)] if most else _SPARKS[0] for cost in costs)


def _table(report: Report, table: Table, top: int) -> Grid:
    lines, others = table.split(top)
    change = ["change"] if report.previous else []
    names = [*table.levels, "cost", "share", *change, "calls", "failed", "unpriced", "tokens"]
    blank = [""] * (len(table.levels) - 1)
    whole = report.total.now
    rows = [[*wording.key(line), *measures(line, whole)] for line in lines]
    if others:
        rows.append([others.key[0], *blank, *measures(others, whole)])
    if table.rest.now.calls:
        told = f"without {' or '.join(table.levels)}"
        rows.append([told, *blank, *measures(table.rest, whole)])
    return grid(names, rows, texts=len(table.levels))


def _movers(report: Report) -> Iterable[RenderableType]:
    rows = [
        [", ".join(table.levels), " / ".join(wording.key(line)), wording.exact(line.now.cost),
         wording.change(line)]
        for table in report.tables for line in wording.movers(table)
    ]  # fmt: skip
    if rows:
        yield grid(["top movers by", "", "cost", "change"], rows, texts=2)


def measures(line: Line, whole: Figures) -> list[str]:
    """The cells of a line, after its key."""
    now = line.now
    change = [wording.change(line)] if line.before is not None else []
    counts = (now.calls, now.errors, now.unpriced, now.tokens)
    return [
        wording.exact(now.cost),
        wording.share(now, whole),
        *change,
        *(f"{n:,}" for n in counts),
    ]


def grid(names: Iterable[str], rows: Iterable[list[str]], *, texts: int) -> Grid:
    """Rows under their names; the first `texts` columns are texts, the others numbers."""
    from rich import box
    from rich.table import Table as Grid
    from rich.text import Text

    table = Grid(box=box.SIMPLE_HEAD, pad_edge=False)
    for place, name in enumerate(names):
        number = place >= texts
        table.add_column(name, justify="right" if number else "left", no_wrap=number)
    for row in rows:
        table.add_row(*map(Text, row))
    return table
