"""Charts as SVG inside a page: no script, no style attribute; colours are the page's classes."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from html import escape

from nilometer.usage.report import wording
from nilometer.usage.report.report import Line, Report

WIDTH, HEIGHT = 960, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 72, 8, 12, 28
_TICKS = 4
_LABELS = 8


def trend(report: Report) -> str:
    """Spend by step as bars, and the period before as a line."""
    lines = report.trend
    most = max((max(_cost(each), _before(each)) for each in lines), default=0.0)
    scale, top = _scale(most)
    width = (WIDTH - _LEFT - _RIGHT) / max(len(lines), 1)
    shapes = [_grid(scale, top)]
    for place, line in enumerate(lines):
        shapes.append(_bar(report, line, _LEFT + place * width, width, top))
    if report.previous:
        shapes.append(_line(lines, width, top))
    shapes += _labels(report, width)
    name = escape(f"Spend by {report.step}, US dollars")
    return (
        f'<svg class="trend" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{name}">'
        f"{''.join(shapes)}</svg>"
    )


def share(part: Decimal | None, whole: Decimal | None) -> str:
    """A bar as long as a share."""
    length = float(part) / float(whole) * 100 if part and whole else 0.0
    return (
        '<svg class="share" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="track" width="100" height="8" rx="2"/>'
        f'<rect class="bar" width="{min(length, 100):.2f}" height="8" rx="2"/></svg>'
    )


def _scale(most: float) -> tuple[list[Decimal], float]:
    """Round values for the grid, from 0 to the first that nothing exceeds."""
    if most <= 0:
        return [Decimal(0), Decimal(1)], 1.0
    step = Decimal(most) / _TICKS
    magnitude = Decimal(1).scaleb(step.adjusted())
    nice = next(n for n in (Decimal(1), Decimal(2), Decimal("2.5"), Decimal(5), Decimal(10))
                if n * magnitude >= step)  # fmt: skip
    values = [nice * magnitude * n for n in range(_TICKS + 1)]
    while len(values) > 2 and float(values[-2]) >= most:
        values.pop()
    return values, float(values[-1])


def _grid(scale: Sequence[Decimal], top: float) -> str:
    found: list[str] = []
    finest = max(0, -min(int(value.normalize().as_tuple().exponent) for value in scale))
    places = 2 if finest == 1 else finest
    for value in scale:
        y = _y(float(value), top)
        text = f"${value:,.{places}f}"
        found.append(
            f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="axis" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{text}</text>'
        )
    return "".join(found)


def _bar(report: Report, line: Line, left: float, width: float, top: float) -> str:
    cost = _cost(line)
    y = _y(cost, top)
    gap = min(width * 0.15, 3)
    told = f"{wording.step(report, line)}: {wording.exact(line.now.cost)}"
    if line.before is not None:
        told += f", before {wording.exact(line.before.cost)}"
    return (
        f"<g><title>{escape(told)}</title>"
        f'<rect class="hover" x="{left:.1f}" y="{_TOP}" width="{width:.1f}" '
        f'height="{HEIGHT - _TOP - _BOTTOM}"/>'
        f'<rect class="bar" x="{left + gap:.1f}" y="{y:.1f}" width="{width - 2 * gap:.1f}" '
        f'height="{HEIGHT - _BOTTOM - y:.1f}"/></g>'
    )


def _line(lines: Sequence[Line], width: float, top: float) -> str:
    points = " ".join(
        f"{_LEFT + (place + 0.5) * width:.1f},{_y(_before(line), top):.1f}"
        for place, line in enumerate(lines)
    )
    return f'<polyline class="before" points="{points}"/>'


def _labels(report: Report, width: float) -> list[str]:
    every = max(1, -(-len(report.trend) // _LABELS))
    return [
        f'<text class="axis" x="{_LEFT + (place + 0.5) * width:.1f}" y="{HEIGHT - 8}" '
        f'text-anchor="middle">{escape(_label(report, line))}</text>'
        for place, line in enumerate(report.trend)
        if place % every == 0
    ]


def _label(report: Report, line: Line) -> str:
    return f"{line.key[1]}:00" if report.step == "hour" else line.key[0][5:]


def _y(value: float, top: float) -> float:
    return _TOP + (HEIGHT - _TOP - _BOTTOM) * (1 - value / top)


def _cost(line: Line) -> float:
    return float(line.now.cost or 0)


def _before(line: Line) -> float:
    return float(line.before.cost or 0) if line.before else 0.0
