"""A report as one JSON document: amounts are exact decimal texts, null where not known."""

from __future__ import annotations

import json
from typing import Any

from nilometer.usage.report.report import Figures, Line, Period, Report, Table, money

MOVERS = 10


def to_json(report: Report) -> bytes:
    """The document, indented, UTF-8, with a newline at its end."""
    return (json.dumps(document(report), indent=2, ensure_ascii=False) + "\n").encode()


def document(report: Report) -> dict[str, Any]:
    """The document. docs/reports.md has its members."""
    levels = ("day", "hour") if report.step == "hour" else ("day",)
    return {
        "source": report.source,
        "made_at": report.made_at.isoformat(timespec="seconds"),
        "period": _period(report.period),
        "previous": None if report.previous is None else _period(report.previous),
        "filters": dict(report.filters),
        "total": of_line((), report.total),
        "unpriced_percent": money(report.price_share),
        "error_percent": money(report.error_share),
        "trend": {"step": report.step, "lines": [of_line(levels, each) for each in report.trend]},
        "tables": [_table(each) for each in report.tables],
        "savings": report.savings,
        "notes": list(report.notes),
    }


def _period(period: Period) -> dict[str, str]:
    return {"start": period.start.isoformat(), "end": period.end.isoformat()}


def _table(table: Table) -> dict[str, Any]:
    return {
        "levels": list(table.levels),
        "lines": [of_line(table.levels, each) for each in table.lines],
        "without": of_line((), table.rest),
        "movers": [of_line(table.levels, each) for each in table.movers(MOVERS)],
    }


def of_line(levels: tuple[str, ...], line: Line) -> dict[str, Any]:
    """A line: its levels' values, its figures, and where it is compared, those before."""
    found: dict[str, Any] = dict(zip(levels, line.key, strict=True)) | of_figures(line.now)
    if line.before is not None:
        found["previous"] = of_figures(line.before)
        found["change_usd"] = money(line.change)
        found["change_percent"] = money(line.percent)
    return found


def of_figures(figures: Figures) -> dict[str, Any]:
    """Figures, by their names in every form for machines."""
    return {
        "cost_usd": money(figures.cost),
        "calls": figures.calls,
        "api_calls": figures.requests,
        "errors": figures.errors,
        "unpriced": figures.unpriced,
        "tokens": figures.tokens,
        "latency_p50": figures.p50,
        "latency_p95": figures.p95,
    }
