"""Writes docs/scale.md: what was measured, and the arithmetic from it to 1,000,000 events a second.

python -m bench kafka worker            # measures, into .build/bench/results.json
python -m bench.scale --keep            # keeps those figures in bench/results/scale.json
python -m bench.scale                   # writes the page anew from what is kept
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.scaling import MB, TB, Assumptions, Costs, Needs, Prices, needs

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "scale.md"
KEPT = Path(__file__).parent / "results" / "scale.json"
MEASURED = ROOT / ".build" / "bench" / "results.json"
PARTS = ("kafka", "worker")
RATES = (1_000, 10_000, 100_000, 1_000_000)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="keep the newest figures first")
    if parser.parse_args().keep:
        keep(json.loads(MEASURED.read_text()))
    PAGE.write_text(page(json.loads(KEPT.read_text())))


def keep(results: dict[str, Any]) -> None:
    """Keep what the page needs of the bench's results, and what machine they are from. A part that
    was not measured this time stays as it is kept."""
    KEPT.parent.mkdir(exist_ok=True)
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    kept |= {"machine": machine(), "quick": results["quick"]} | {
        name: results[name] for name in PARTS if name in results
    }
    KEPT.write_text(json.dumps(kept, indent=1) + "\n")


def machine() -> dict[str, Any]:
    """What the figures are from."""
    processor = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            processor = line.partition(":")[2].strip()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        "memory_gb": round(memory / 1e9),
        "python": platform.python_version(),
        "date": datetime.now(UTC).date().isoformat(),
    }


def page(results: dict[str, Any]) -> str:
    """The page, from the figures alone."""
    costs = Costs.of(results)
    columns = [needs(rate, costs) for rate in RATES]
    parts = [_HEAD, _measured(results), _costs(costs), _needs(columns), _assumed(), _LIMITS]
    return "\n\n".join(part.strip() for part in parts) + "\n"


_HEAD = """
# Scale

<!-- Written by `python -m bench.scale` from bench/results/scale.json: change those, not this. -->

What one event costs was measured; what a rate of events needs follows by arithmetic. Only what is
under *Measured* was run. **Everything under *What a rate needs* is computed and was never run
here**: there was one machine, with every server, process and load generator on it.
"""

_QUICK = (
    "**These are short runs (`--quick`), beside other work on the same cores**: take them as the "
    "least that the machine does."
)


def _measured(results: dict[str, Any]) -> str:
    kept = results["machine"]
    return "\n\n".join(
        [
            "## Measured",
            f"On {kept['date']}: {kept['cores']} cores ({kept['processor']}), "
            f"{kept['memory_gb']} GB, Python {kept['python']}. One Kafka broker with one "
            "copy of each record, ClickHouse's engine behind the tests' HTTP server, PostgreSQL.",
            *([_QUICK] if results["quick"] else []),
            kafka(results["kafka"]),
            worker(results["worker"]),
            "The backlog's aim is a minute for 600,000 events, ten minutes of 1,000 a second. Its "
            "time begins with the launch of the processes.",
        ]
    )


def kafka(results: dict[str, Any]) -> str:
    """The tables of `bench.kafka_log`."""
    log = results["log"]
    sentence = (
        f"The log without HTTP: {log['per_second']:,} records of {log['record_bytes']:,} bytes a "
        f"second from {log['senders']} senders, {log['of_bare']:.2f} of what librdkafka does alone "
        f"with the same bytes (the bare loop: {log['bare_per_second']:,}; the aim is 0.5); p50 "
        f"{log['p50_ms']} ms, p99 {log['p99_ms']} ms; one sender alone p50 "
        f"{log['alone_p50_ms']} ms."
    )
    heads = (
        *("Request", "capture processes", "events/s", "of the bare loop", "p50", "p99"),
        *("processor per event", "peak memory"),
    )
    rows = [
        (
            each["shape"],
            each["processes"],
            f"{each['events_per_second']:,}",
            f"{each['of_bare']:.2f}",
            f"{each['p50_ms']} ms",
            f"{each['p99_ms']} ms",
            f"{each['processor_us_per_event']:,.0f} µs",
            f"{each['peak_mb']} MB",
        )
        for each in results["http"]
    ]
    return "\n".join([sentence, "", *_table(heads, rows)])


def worker(results: dict[str, Any]) -> str:
    """The table of `bench.worker`."""
    heads = (
        *("Workers", "events", "in a record", "batch", "events/s", "until all is stored"),
        *("processor per event: worker", "store", "peak memory"),
    )
    return "\n".join(_table(heads, [_worker_row(each) for each in _worker_runs(results)]))


def _worker_runs(results: dict[str, Any]) -> Iterable[dict[str, Any]]:
    yield from results["by_batch"]
    yield from ({"batch": "default"} | each for each in results["backlog"])


def _worker_row(each: dict[str, Any]) -> tuple[object, ...]:
    left = each["events"] - each["stored"]
    return (
        each["workers"],
        f"{each['events']:,}",
        each["events_per_record"],
        each["batch"],
        f"{each['per_second']:,}",
        f"{each['cleared_s']} s" + (f", {left:,} left" if left > 0 else ""),
        f"{each['worker_processor_us_per_event']} µs",
        f"{each['store_processor_us_per_event']} µs",
        f"{each['peak_mb']} MB",
    )


def _costs(costs: Costs) -> str:
    rows = [
        ("capture, 100 events a request", f"{costs.capture_us:,.0f} µs of a core"),
        ("capture, one event a request", f"{costs.capture_alone_us:,.0f} µs of a core"),
        ("worker, 100 events a record", f"{costs.worker_us:,.0f} µs of a core"),
        ("worker, one event a record", f"{costs.worker_alone_us:,.0f} µs of a core"),
        ("ClickHouse: look-up, inserts, merges", f"{costs.store_us:,.0f} µs of a core"),
        ("on the wire", f"{costs.wire_bytes:,.0f} bytes"),
        ("in the log, compressed, one copy", f"{costs.log_bytes:,.0f} bytes"),
        ("in ClickHouse, compressed, one copy", f"{costs.store_bytes:,.0f} bytes"),
    ]
    text = "## What an event costs\n\nOne event of 2 kB, from the tables above:\n\n"
    return text + "\n".join(_table(("Where", "Cost"), rows))


_ROWS: Sequence[tuple[str, Callable[[Needs], str]]] = (
    ("cells (deployments; a project lives in one)", lambda n: f"{n.cells:,}"),
    ("capture processes, one core each", lambda n: f"{n.capture:,}"),
    ("worker processes, one core each", lambda n: f"{n.workers:,}"),
    ("Kafka partitions of a cell", lambda n: f"{n.partitions:,}"),
    ("Kafka brokers", lambda n: f"{n.brokers:,}"),
    ("Kafka disk", lambda n: _bytes(n.log_disk)),
    ("ClickHouse hosts", lambda n: f"{n.store_hosts:,}"),
    ("ClickHouse cores", lambda n: f"{n.store_cores:,}"),
    ("ClickHouse disk", lambda n: _bytes(n.store_disk)),
    ("S3 puts a second", lambda n: f"{n.puts:,.0f}"),
    ("S3 objects kept", lambda n: _bytes(n.objects)),
    ("network: clients to capture", lambda n: f"{n.network_in / MB:,.0f} MB/s"),
    ("network: Kafka, copies and readers", lambda n: f"{n.network_log / MB:,.0f} MB/s"),
    ("network: ClickHouse, copies", lambda n: f"{n.network_store / MB:,.0f} MB/s"),
    ("cores in all", lambda n: f"{n.cores:,}"),
    ("dollars a month", lambda n: f"{n.dollars:,.0f}"),
)


def _needs(columns: Sequence[Needs]) -> str:
    heads = ("", *(f"{each.rate:,} events/s" for each in columns))
    rows = [(name, *(value(each) for each in columns)) for name, value in _ROWS]
    formulas = """
- Capture: events/s × its processor time ÷ the busy share; never fewer than two, for restarts.
- Workers: events/s × their processor time × the catch-up factor, so that what an outage left is
  cleared as fast as it came; one core each, because a worker is one interpreter.
- Partitions of a cell: twice its workers, at least the default of 64, at most 1,000. They bound the
  workers for good, so choose them for the largest rate that the cell will see.
- Brokers: bytes of the log × copies ÷ what one writes; at least three a cell.
- ClickHouse: events/s × its processor time ÷ the busy share on each copy. All hosts of a cluster
  have every table ([store.md](store.md)): when one host is not enough, the answer is another cell.
- Cores: one a process, four a broker, ClickHouse's, and two a cell for PostgreSQL and the API.
- PostgreSQL sees no events: each process asks for a key in use every few seconds."""
    return "\n".join(
        [
            "## What a rate needs",
            "",
            "**Computed, not run.** Events of 2 kB, 100 in a request, at the mean rate of the day:",
            "",
            *_table(heads, rows),
            formulas,
        ]
    )


_ASSUMED = {
    "busy": ("share of a core used at the mean; a peak of twice the mean fits", "{:.0%}"),
    "copies_of_log": ("copies of each record in Kafka", "{}"),
    "log_days": ("days that Kafka keeps records", "{:.0f}"),
    "broker_write": ("bytes a second that a broker writes, copies included", "{:,.0f}"),
    "partition_write": ("bytes a second of one partition", "{:,.0f}"),
    "least_partitions": ("fewest partitions: the setting's default", "{}"),
    "most_partitions": ("most partitions: the setting's limit", "{}"),
    "store_copies": ("copies of each row in ClickHouse", "{}"),
    "store_days": ("days of blobs, and of rows, which stay longer and then take more", "{}"),
    "store_cores": ("cores of a ClickHouse host", "{}"),
    "blob_share": ("share of events with blobs, each an object", "{:.0%}"),
    "blob_bytes": ("bytes of such an object", "{:,.0f}"),
    "pack_share": ("share of events with values of more than 16 KiB, packed", "{:.0%}"),
    "pack_bytes": ("bytes of such an event's values", "{:,.0f}"),
    "batch_events": ("events in a worker's batch under load", "{:,}"),
    "projects_in_batch": ("projects in it with packed values: one object each", "{}"),
    "catch_up": ("how much faster than the mean workers are", "{:.0f}"),
}
_PRICED = {
    "core_hour": ("dollars an hour for a core with 4 GB", "{:.3f}"),
    "disk_gb_month": ("dollars a month for a GB of SSD", "{:.2f}"),
    "object_gb_month": ("dollars a month for a GB in S3", "{:.3f}"),
    "thousand_puts": ("dollars for 1,000 puts to S3", "{:.3f}"),
}


def _assumed() -> str:
    assumptions, prices = Assumptions(), Prices()
    rows = [
        (text, form.format(getattr(values, field.name)))
        for values, texts in ((assumptions, _ASSUMED), (prices, _PRICED))
        for field in fields(values)
        for text, form in (texts[field.name],)
    ]
    text = """## What is assumed

None of these was measured here. They are in `bench/scaling.py`; with other values,
`python -m bench.scale` writes another page. The prices are examples, not quotes: put in yours.
"""
    return text + "\n" + "\n".join(_table(("Assumption", "Value"), rows))


_LIMITS = """
## Never run here

- More than one machine, two capture processes, two workers: whether throughput grows with processes
  beyond that, and what the network between machines costs.
- A Kafka cluster under this load. Copies of records were tested for what survives, not for speed.
- ClickHouse as a server, let alone a cluster: figures are of its engine behind a small HTTP server.
- Object storage of a cloud, its rates and its limits on requests for one prefix.
- Any rate above what the tables under *Measured* say, for longer than they took.
"""


def _bytes(amount: float) -> str:
    return f"{amount / TB:,.1f} TB"


def _table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    return [
        f"| {' | '.join(heads)} |",
        "|---" * len(heads) + "|",
        *(f"| {' | '.join(map(str, row))} |" for row in rows),
    ]


if __name__ == "__main__":
    main()
