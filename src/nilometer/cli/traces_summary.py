"""What `nilometer traces ingest` says when it is done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from nilometer.cli.output import show_table

if TYPE_CHECKING:
    from nilometer.importers.statistics import Statistics


def show(done: Statistics, *, stats: bool, sent: bool) -> None:
    """The summary, as tables."""
    counts, tally = done.counts, done.tally
    kept = "sent" if sent else "inserted"
    rows: list[tuple[str, str]] = [
        (kept, f"{counts.inserted:,}"),
        *([] if sent else [("updated", f"{counts.updated:,}")]),
        *([] if sent else [("duplicate", f"{counts.duplicate:,}")]),
        ("rejected", f"{counts.rejected:,}"),
        *([("held back", f"{done.held:,}")] if done.held else []),
    ]
    if tally.joined:
        rows.append(("parts of other records", f"{tally.joined:,}"))
    if tally.passed:
        rows.append(("no calls", f"{tally.passed:,}"))
    rows.append(("records", f"{tally.records:,}"))
    if not sent:
        rows.append(("unpriced calls", f"{done.unpriced:,} ({done.unpriced_share:.1%})"))
    show_table(("traces", ""), rows)
    if done.held:
        typer.echo("Answers that may still be streaming are sent by a later run.")
    if done.rejected:
        show_table(("rejected because", "records"), sorted(done.rejected.items()))
        typer.echo("`nilometer traces dead-letters list` shows them.")
    if stats:
        _show_rates(done)


def _show_rates(done: Statistics) -> None:
    show_table(
        ("rate", ""),
        [
            ("seconds", f"{done.seconds:.2f}"),
            ("records/s", f"{done.records_per_second:,.0f}"),
            ("MB/s", f"{done.bytes_per_second / 1e6:,.1f}"),
        ],
    )
    rows = [
        (stage, *(f"{seconds * 1000:.1f}" for seconds in found.values()))
        for stage in done.stages
        if (found := done.quantiles(stage))
    ]
    show_table(("stage, ms a batch", "p50", "p95", "p99"), rows)


def document(done: Statistics) -> dict[str, Any]:
    """The summary, as JSON."""
    counts, tally = done.counts, done.tally
    return {
        "inserted": counts.inserted,
        "updated": counts.updated,
        "duplicate": counts.duplicate,
        "rejected": counts.rejected,
        "held": done.held,
        "rejected_by_reason": dict(sorted(done.rejected.items())),
        "records": tally.records,
        "calls": tally.calls,
        "joined": tally.joined,
        "passed": tally.passed,
        "blank": tally.blank,
        "unpriced": done.unpriced,
        "unpriced_share": done.unpriced_share,
        "bytes": done.bytes,
        "seconds": done.seconds,
        "records_per_second": done.records_per_second,
        "bytes_per_second": done.bytes_per_second,
        "stages": {stage: found for stage in done.stages if (found := done.quantiles(stage))},
    }
