"""The figures as Markdown."""

from __future__ import annotations

from typing import Any


def tables(results: dict[str, Any]) -> str:
    """The tables of the README, as far as they were measured."""
    parts = [
        render(results[name])
        for name, render in (
            ("acknowledge", _acknowledge),
            ("queryable", _queryable),
            ("large", _large),
            ("footprint", _footprint),
        )
        if name in results
    ]
    return "\n\n".join(parts)


def _acknowledge(result: dict[str, Any]) -> str:
    lines = [
        "| durable acknowledgements | connections | per second | of the floor | p50 | p99 "
        "| peak memory |",
        "|---|---|---|---|---|---|---|",
    ]
    for shape, rows in result.items():
        for row in rows:
            share = f"{row['of_floor']:.2f}" if "of_floor" in row else ""
            memory = f"{row['peak_mb']} MB" if "peak_mb" in row else ""
            lines.append(
                f"| {shape} | {row['connections']} | {row['per_second']:,} | {share} "
                f"| {row['p50_ms']} ms | {row['p99_ms']} ms | {memory} |"
            )
    return "\n".join(lines)


def _queryable(result: dict[str, Any]) -> str:
    delay, memory = result["sent_to_queryable"], result["memory"]
    return (
        f"At a steady {result['rate']:,} events/s for {result['seconds']} s: sent to queryable "
        f"p50 {delay['p50_s']} s, p99 {delay['p99_s']} s ({delay['probes']} probes); acknowledged "
        f"p99 {result['acknowledged']['p99_ms']} ms; memory {memory['early_mb']} MB after a tenth "
        f"of the run, {memory['end_mb']} MB at its end."
    )


def _large(result: dict[str, Any]) -> str:
    memory = result["memory"]
    return (
        f"{result['requests']:,} requests of 10 MiB: {result['mb_per_second']} MB/s, memory "
        f"{memory['early_mb']} MB after a tenth, {memory['end_mb']} MB at the end, "
        f"{memory['peak_mb']} MB at most."
    )


def _footprint(result: dict[str, Any]) -> str:
    start = result["second_start"]
    return (
        f"Capture is ready {start['capture_ready_s']} s after the start and everything "
        f"{start['all_ready_s']} s; idle memory {start['idle_mb']} MB; installed size "
        f"{result['installed_mb']} MB."
    )
