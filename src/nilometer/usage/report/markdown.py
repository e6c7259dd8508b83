"""A report as Markdown, for a pull request, a wiki or a chat."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from nilometer.usage.report import wording
from nilometer.usage.report.report import Figures, Line, Report, Table

# What Markdown gives a meaning, and what GitHub's makes a link of by itself.
_MEANT = re.compile(r"([\\`*_{}\[\]<>|#~!&$])")
_LINK = re.compile(r"(?i)(:)(?=//)|(?<=www)(\.)")


def to_markdown(report: Report, top: int) -> bytes:
    """The text, UTF-8; tables have the costliest `top` lines, and the others summed up."""
    return "\n".join([*_lines(report, top), ""]).encode()


def _lines(report: Report, top: int) -> Iterable[str]:
    yield f"# {escaped(wording.title(report))}"
    yield ""
    if scope := wording.scope(report):
        yield f"Only {escaped(wording.visible(scope))}."
        yield ""
    yield from _headline(report)
    yield from _movers(report)
    for table in report.tables:
        yield from _table(report, table, top)
    yield from _savings(report)
    yield "## Trend"
    yield ""
    rows = [[wording.step(report, line), *_measures(line, report.total.now)] for line in
            report.trend]  # fmt: skip
    yield from lines_of([report.step.capitalize(), *_names(report)], rows)
    yield "## Notes"
    yield ""
    for note in report.notes:
        yield f"- {escaped(note)}"
    made = report.made_at.strftime("%Y-%m-%d %H:%M UTC")
    yield f"- Made {made} from {escaped(wording.visible(report.source))}."


def _headline(report: Report) -> Iterable[str]:
    now = report.total.now
    compared = f", {wording.change(report.total)} against {wording.days(report.previous)}" if (
        report.previous) else ""  # fmt: skip
    yield f"**{escaped(wording.exact(now.cost))}**{escaped(compared)}"
    yield ""
    yield (
        f"{now.calls:,} calls, {now.tokens:,} tokens; failed {now.errors:,} "
        f"({report.error_share or 0} %), unpriced {now.unpriced:,} ({report.price_share or 0} %)."
    )
    yield ""


def _movers(report: Report) -> Iterable[str]:
    rows = [
        [", ".join(table.levels), " / ".join(wording.key(line)), wording.exact(line.now.cost),
         wording.change(line)]
        for table in report.tables for line in wording.movers(table)
    ]  # fmt: skip
    if rows:
        yield "## Top movers"
        yield ""
        yield from lines_of(["By", "", "Cost", "Change"], rows, left=2)


def _table(report: Report, table: Table, top: int) -> Iterable[str]:
    yield f"## {table.title}"
    yield ""
    lines, others = table.split(top)
    blank = [""] * (len(table.levels) - 1)
    whole = report.total.now
    rows = [[*wording.key(line), *_measures(line, whole)] for line in lines]
    if others:
        rows.append([others.key[0], *blank, *_measures(others, whole)])
    if table.rest.now.calls:
        told = f"without {' or '.join(table.levels)}"
        rows.append([told, *blank, *_measures(table.rest, whole)])
    names = [name.capitalize() for name in table.levels]
    yield from lines_of([*names, *_names(report)], rows, left=len(names))


def _savings(report: Report) -> Iterable[str]:
    if found := wording.savings(report):
        yield "## Savings"
        yield ""
        rows = [[name, wording.exact(amount), of] for name, amount, of in found]
        yield from lines_of(["", "Amount", "Of"], rows)


def _names(report: Report) -> list[str]:
    change = ["Change"] if report.previous else []
    return ["Cost", "Share", *change, "Calls", "Failed", "Unpriced", "Tokens"]


def _measures(line: Line, whole: Figures) -> list[str]:
    now = line.now
    change = [wording.change(line)] if line.before is not None else []
    counts = [now.calls, now.errors, now.unpriced, now.tokens]
    return [
        wording.exact(now.cost),
        wording.share(now, whole),
        *change,
        *(f"{n:,}" for n in counts),
    ]


def lines_of(
    names: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1
) -> Iterable[str]:
    """The lines of a table; its first `left` columns are texts, the others numbers."""
    yield f"| {' | '.join(names)} |"
    yield f"|{'|'.join(['---'] * left + ['---:'] * (len(names) - left))}|"
    for row in rows:
        cells = [*map(escaped, row), *[""] * (len(names) - len(row))]
        yield f"| {' | '.join(cells)} |"
    yield ""


def escaped(text: str) -> str:
    """A text that Markdown shows as it is."""
    literal = _MEANT.sub(r"\\\1", text)
    return _LINK.sub(lambda match: f"\\{match[0]}", literal)
