"""The figures as Markdown."""

from __future__ import annotations

from typing import Any

from bench import scale, sql


def tables(results: dict[str, Any]) -> str:
    """The tables of the README, as far as they were measured."""
    parts = [
        render(results[name])
        for name, render in (
            ("acknowledge", _acknowledge),
            ("queryable", _queryable),
            ("large", _large),
            ("footprint", _footprint),
            ("sql", _sql),
            ("pricing", _pricing),
            ("batch", _batch),
            ("packed", _packed),
            ("otlp", _otlp),
            ("kafka", scale.kafka),
            ("worker", scale.worker),
            ("exceptions", _exceptions),
            ("tracker", _tracker),
            ("tracker_store", _tracker_store),
            ("traces", _traces),
            ("usage", _usage),
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


def _sql(results: list[dict[str, Any]]) -> str:
    """The table of the examples, and a sentence for each size."""
    heads = [
        f"{result['events']:,} events{beside}" for result in results for beside in ("", ", busy")
    ]
    lines = [f"| p50 / p99, ms | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for title in results[0]["alone"]["examples"]:
        taken = [
            result[part]["examples"][title] for result in results for part in ("alone", "beside")
        ]
        cells = [f"{each['p50_ms']:,.0f} / {each['p99_ms']:,.0f}" for each in taken]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *map(_sql_of_size, results)])


def _sql_of_size(result: dict[str, Any]) -> str:
    examples = result["alone"]["examples"].values()
    fast = sum(each["p50_ms"] <= sql.AIM_MS for each in examples)
    guard = result["alone"]["guard"]
    refused = {*result["alone"]["refused"], *result["beside"]["refused"]}
    return (
        f"- {result['events']:,} events ({result['stored_mb']:,} MB on disk, filled in "
        f"{result['fill_s']} s): {fast} of {len(examples)} within {sql.AIM_MS} ms at the median, "
        f"alone; {result['alone']['rounds']} rounds alone, {result['beside']['rounds']} busy; the "
        f"guard itself p50 {guard['p50_ms']} ms, p99 {guard['p99_ms']} ms. Acknowledged at "
        f"{result['rate']:,} events/s: p99 {result['acknowledged_alone_p99_ms']} ms without "
        f"queries, {result['acknowledged_beside_p99_ms']} ms beside them "
        f"({result['share']} times; the aim is {sql.AIM_SHARE}). "
        f"Memory {result['peak_mb']} MB at most."
        + (f" Without an answer: {'; '.join(sorted(refused))}." if refused else "")
    )


def _pricing(result: dict[str, Any]) -> str:
    return (
        f"{result['nilometer_calls_per_second']:,} calls priced a second, "
        f"{result['times_faster']} times genai-prices' own calculation "
        f"({result['genai_prices_calls_per_second']:,}). Of each event of `/batch` the pipeline's "
        f"processor time is {result['mapping_us']} µs of mapping, {result['of_which_usage_us']} of "
        f"them for its usage and {result['of_which_price_us']} for its price, and "
        f"{result['writing_us']} µs of writing: pricing is {result['price_share']:.1%} of it, with "
        f"the usage {result['usage_and_price_share']:.1%}."
    )


def _batch(result: dict[str, Any]) -> str:
    return (
        f"`/batch` of {result['events_per_request']} events of 2 kB, {result['connections']} "
        f"connections: {result['acknowledged_per_second']:,} events/s durable, "
        f"{result['queryable_per_second']:,} queryable; acknowledged p50 {result['p50_ms']} ms, "
        f"p99 {result['p99_ms']} ms."
    )


def _packed(result: dict[str, Any]) -> str:
    return (
        f"`/batch` of {result['events_per_request']} events of {result['event_bytes'] // 1000} kB, "
        f"whose prompts are kept in packs: {result['acknowledged_per_second']:,} events/s durable, "
        f"{result['queryable_per_second']:,} queryable; acknowledged p50 {result['p50_ms']} ms, "
        f"p99 {result['p99_ms']} ms."
    )


def _otlp(result: dict[str, Any]) -> str:
    lines = [
        f"| OTLP, {result['spans_per_request']} spans of 2 kB a request, {result['connections']} "
        "connections | acknowledged spans/s | queryable spans/s | p50 | p99 | kept after kill -9 "
        "| memory |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in result.items():
        if isinstance(row, dict):
            lines.append(_otlp_row(name, row))
    return "\n".join(lines)


def _otlp_row(name: str, row: dict[str, Any]) -> str:
    if "failed" in row:
        return f"| {name} | not measured: {row['failed']} | | | | | |"
    killed = row["kill"]
    short = row["acknowledged"] - row["queryable"]
    survived = killed.get("failed") or f"{killed['kept']:,} of {killed['acknowledged']:,}"
    missing = f" ({short:,} never came)" if short > 0 else ""
    return (
        f"| {name} | {row['acknowledged_per_second']:,} "
        f"| {row['queryable_per_second']:,}{missing} | {row['p50_ms']} ms | {row['p99_ms']} ms "
        f"| {survived} | {row['memory_mb']:,} MB |"
    )


def _exceptions(result: dict[str, Any]) -> str:
    lines = [
        "| Exceptions | closed/s | POST to tool call, p50 / p99 | at | accepted p99 "
        "| processor each | of a worker: processors | peak memory "
        "| a small tenant's p99 alone / beside a flood |",
        "|---" * 9 + "|",
        _exceptions_row("embedded", result["embedded"]),
        *(_exceptions_row(f"{r['workers']} workers", r) for r in result["distributed"]),
    ]
    embedded = result["embedded"]
    return "\n".join(lines) + (
        f"\n\nThe limit beside the embedded row: SQLite takes the rows of "
        f"{embedded['floor_per_second']:,} exceptions a second from the driver alone; the chain "
        f"is {embedded['of_floor']:.1%} of it."
    )


def _exceptions_row(name: str, row: dict[str, Any]) -> str:
    fair = row["fairness"]
    used = ", ".join(f"{each:.2f}" for each in row["processors_of_a_worker"])
    memory = ", ".join(f"{each:,}" for each in row["peak_mb_of_a_worker"])
    return (
        f"| {name} | {row['closed_per_second']:,} | {row['p50_ms']} / {row['p99_ms']} ms "
        f"| {row['rate']}/s | {row['accepted_p99_ms']} ms "
        f"| {row['processor_us_per_exception']:,} µs | {used} | {memory} MB "
        f"| {fair['alone']['p99_ms']} / {fair['beside']['p99_ms']} ms: {fair['ratio']} times |"
    )


def _tracker(result: dict[str, Any]) -> str:
    lines = [
        "| what tracking adds to a call | median | p99 | wrapped client, median | p99 | growth |",
        "|---|---|---|---|---|---|",
    ]
    for scenario, row in result.items():
        times = (row[f"{name}_us"] for name in ("median", "p99", "client_median", "client_p99"))
        shown = " | ".join(f"{each:.0f} µs" for each in times)
        lines.append(f"| store {scenario} | {shown} | {row['grown_bytes'] / 1e6:.1f} MB |")
    return "\n".join(lines)


def _tracker_store(result: dict[str, Any]) -> str:
    lines = [
        "| into DynamoDB Local, one process | calls a second | a call, amortised | a write, mean "
        "| p99 |",
        "|---|---|---|---|---|",
    ]
    for name, text in (
        ("burst", "all at once"),
        ("steady", "a steady 1,000 a second"),
        ("instant", "all at once, answered at once in its place"),
    ):
        row = result[name]
        lines.append(
            f"| {row['calls']:,} calls, {text} | {row['per_second']:,.0f} "
            f"| {row['amortised_ms']:.1f} ms | {row['request_mean_ms']:.0f} ms "
            f"| {row['request_p99_ms']:.0f} ms |"
        )
    for name, text in (("bare", "by 25"), ("bare_transactions", "in transactions of 100")):
        row = result[name]
        lines.append(
            f"| the limit: bare boto3, the same items {text} | {row['per_second']:,.0f} "
            f"| {1000 / row['per_second']:.1f} ms | {row['request_mean_ms']:.0f} ms | |"
        )
    return "\n".join(lines)


def _traces(result: dict[str, Any]) -> str:
    lines = [
        f"{result['records']:,} mixed records ({result['bytes'] / 1e6:,.0f} MB), 1% of them bad",
        "",
        "| trace files | records per second | peak memory, all processes |",
        "|---|---|---|",
    ]
    for name, way in result.items():
        if isinstance(way, dict):
            lines.append(f"| {name} | {way['records_per_second']:,} | {way['peak_mb']} MB |")
    return "\n".join(lines)


def _usage(result: dict[str, Any]) -> str:
    lines = [
        f"| a month of {result['metrics']:,} calls, by | server p50 | worst "
        "| DynamoDB Local p50 | worst |",
        "|---|---|---|---|---|",
    ]
    for level, row in result["server_ms"].items():
        other = result["dynamodb_ms"][level]
        lines.append(
            f"| {level} | {row['p50']:.0f} ms | {row['max']:.0f} ms "
            f"| {other['p50']:.0f} ms | {other['max']:.0f} ms |"
        )
    after = result["server_after_a_call_ms"]
    lines.append(
        f"| every level, after one more call | {after['p50']:.0f} ms | {after['max']:.0f} ms | | |"
    )
    return "\n".join(lines)
