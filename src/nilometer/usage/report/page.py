"""A report as one HTML file that stands for itself: no script, nothing from elsewhere.

Its content security policy lets nothing in but its own style, by hash. Every text that someone sent
is escaped, in one place.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from decimal import Decimal
from html import escape
from pathlib import Path

from nilometer.usage.report import charts, wording
from nilometer.usage.report.report import Figures, Line, Report, Table, money

_STYLE = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
_CENTS = 2


def to_html(report: Report, top: int) -> bytes:
    """The file, UTF-8; tables have the costliest `top` lines, and the others summed up."""
    digest = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    title = escape(wording.title(report))
    body = "".join(_body(report, top))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"{body}</main>\n</body>\n</html>\n"
    ).encode()


def _body(report: Report, top: int) -> Iterable[str]:
    yield f"<header><h1>{escape(wording.title(report))}</h1>{_subtitle(report)}</header>\n"
    yield f'<section class="tiles">{"".join(_tiles(report))}</section>\n'
    yield f"<section><h2>Trend</h2>{charts.trend(report)}{_legend(report)}</section>\n"
    yield _movers(report)
    for table in report.tables:
        yield _table(report, table, top)
    yield _savings(report)
    notes = "".join(f"<li>{escape(wording.visible(note))}</li>" for note in report.notes)
    yield f"<section><h2>Notes</h2><ul>{notes}</ul></section>\n"
    made = report.made_at.strftime("%Y-%m-%d %H:%M UTC")
    yield f"<footer>Nilometer, {made}, from {escape(wording.visible(report.source))}</footer>\n"


def _subtitle(report: Report) -> str:
    parts: list[str] = []
    if report.previous:
        parts.append(f"compared with {wording.days(report.previous)}")
    if scope := wording.scope(report):
        parts.append(f"only {wording.visible(scope)}")
    return f"<p>{escape('; '.join(parts))}</p>" if parts else ""


def _tiles(report: Report) -> Iterable[str]:
    total, now = report.total, report.total.now
    yield _tile("Spend", wording.headline(now.cost), f"exactly {wording.exact(now.cost)}")
    if report.previous and total.before is not None:
        told = f"{wording.headline(total.before.cost)} before"
        yield _tile("Change", wording.change(total), told)
    yield _tile("Calls", f"{now.calls:,}", f"{now.tokens:,} tokens")
    yield _tile("Failed", f"{report.error_share or 0} %", f"{now.errors:,} calls")
    yield _tile("Unpriced", f"{report.price_share or 0} %", f"{now.unpriced:,} calls")
    for name, amount, _of in wording.savings(report):
        if amount is not None and name.startswith("Saved"):
            yield _tile(name, wording.headline(amount), f"exactly {wording.exact(amount)}")


def _tile(name: str, value: str, told: str) -> str:
    return (
        f'<div class="tile"><h3>{escape(name)}</h3><p class="value">{escape(value)}</p>'
        f"<p>{escape(told)}</p></div>"
    )


def _legend(report: Report) -> str:
    before = '<span class="key line">the period before</span>' if report.previous else ""
    return f'<p class="legend"><span class="key">this period</span>{before}</p>'


def _movers(report: Report) -> str:
    rows = [
        f"<tr>{_told(', '.join(table.levels))}"
        f"<th scope=row>{escape(' / '.join(wording.key(line)))}</th>"
        f"{_money(line.before.cost if line.before else None)}{_money(line.now.cost)}"
        f"{_change(line)}</tr>"
        for table in report.tables
        for line in wording.movers(table)
    ]
    if not rows:
        return ""
    return _framed("Top movers", ("By", "", "Before", "Now", "Change"), rows, texts=2)


def _table(report: Report, table: Table, top: int) -> str:
    lines, others = table.split(top)
    rows = [_row(report, wording.key(line), line) for line in lines]
    blank = [""] * (len(table.levels) - 1)
    if others:
        rows.append(_row(report, [others.key[0], *blank], others, "others"))
    if table.rest.now.calls:
        told = f"without {' or '.join(table.levels)}"
        rows.append(_row(report, [told, *blank], table.rest, "others"))
    change = ("Change",) if report.previous else ()
    names = (*(name.capitalize() for name in table.levels), "Cost", "Share", "", *change)
    names += ("Calls", "Failed", "Unpriced", "Tokens")
    return _framed(table.title, names, rows, texts=len(table.levels))


def _row(report: Report, key: Sequence[str], line: Line, kind: str = "") -> str:
    first, *more = key
    now, whole = line.now, report.total.now
    cells = [f"<th scope=row>{escape(first)}</th>", *(_told(each) for each in more)]
    cells += [_money(now.cost), f"<td>{wording.share(now, whole)}</td>"]
    cells.append(f'<td class="shares">{charts.share(now.cost, whole.cost)}</td>')
    if report.previous:
        cells.append(_change(line))
    cells += [f"<td>{count:,}</td>" for count in _counts(now)]
    return f"<tr{f' class={kind}' if kind else ''}>{''.join(cells)}</tr>"


def _told(text: str) -> str:
    return f'<td class="text">{escape(text)}</td>'


def _counts(now: Figures) -> tuple[int, ...]:
    return (now.calls, now.errors, now.unpriced, now.tokens)


def _money(amount: Decimal | None) -> str:
    """An exact amount: what is finer than a cent is there, but does not shout."""
    text = money(amount)
    if text is None:
        return f'<td class="unknown">{wording.UNKNOWN}</td>'
    whole, _, fraction = text.partition(".")
    shown = f"${int(whole):,}.{fraction[:_CENTS]:0<{_CENTS}}"
    finer = f"<small>{fraction[_CENTS:]}</small>" if fraction[_CENTS:] else ""
    return f'<td><data value="{text}">{shown}{finer}</data></td>'


def _change(line: Line) -> str:
    amount = line.change
    kind = "" if not amount else ' class="up"' if amount > 0 else ' class="down"'
    return f"<td{kind}>{escape(wording.change(line))}</td>"


def _savings(report: Report) -> str:
    rows = [
        f"<tr><th scope=row>{escape(name)}</th><td>{wording.exact(amount)}</td>"
        f"<td>{escape(of)}</td></tr>"
        for name, amount, of in wording.savings(report)
    ]
    return _framed("Savings", ("", "Amount", "Of"), rows, texts=1) if rows else ""


def _framed(title: str, names: Sequence[str], rows: Sequence[str], *, texts: int) -> str:
    heads = "".join(
        f"<th scope=col{' class=text' if place < texts else ''}>{escape(name)}</th>"
        for place, name in enumerate(names)
    )
    return (
        f"<section><h2>{escape(title)}</h2><table><thead><tr>{heads}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></section>\n"
    )
