"""`make bench`: every measurement in one run; `make bench ARGS=sql` one of them. All take
about an hour, most of it `queryable` (10), `sql` (20) and `worker` (10); `--quick` about fifteen
minutes.

Writes .build/bench/results.json and prints the tables of the README.
"""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path

from bench import (
    acknowledge,
    batch,
    exceptions,
    footprint,
    kafka_log,
    large,
    otlp,
    packed,
    pricing,
    queryable,
    report,
    sql,
    traces,
    tracker,
    tracker_store,
    usage_query,
    worker,
)

RESULTS = Path(".build/bench/results.json")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="shorter runs, same measurements")
    parser.add_argument("names", nargs="*", metavar="NAME", help="measure only these")
    parser.add_argument("--only", metavar="NAME", help="measure only this")
    parser.add_argument("--events", help="sizes of the store for sql, comma-separated")
    options = parser.parse_args()
    default = "1000000" if options.quick else "1000000,10000000"
    sizes = [int(size) for size in (options.events or default).split(",")]
    runs = {
        "footprint": footprint.measure,
        "acknowledge": lambda: acknowledge.measure(3 if options.quick else 10),
        "queryable": lambda: queryable.measure(30 if options.quick else 600),
        "large": lambda: large.measure(100 if options.quick else 1000),
        "sql": lambda: sql.measure(sizes, 20 if options.quick else 120),
        "pricing": pricing.measure,
        "batch": lambda: batch.measure(100 if options.quick else 500),
        "packed": lambda: packed.measure(20 if options.quick else 100),
        "otlp": lambda: otlp.measure(100 if options.quick else 500),
        "kafka": lambda: kafka_log.measure(3 if options.quick else 10),
        "worker": lambda: worker.measure(
            *((20_000, 30_000) if options.quick else (50_000, 600_000))
        ),
        "exceptions": lambda: exceptions.measure(*((2_000, 10) if options.quick else (10_000, 30))),
        "tracker": tracker.measure,
        "tracker_store": lambda: tracker_store.measure(3_000 if options.quick else 10_000),
        "traces": lambda: traces.measure(100_000 if options.quick else 1_000_000),
        "usage": lambda: usage_query.measure(5_000 if options.quick else 20_000),
    }
    chosen = {*options.names, *filter(None, [options.only])} or {*runs}
    if unknown := chosen - {*runs}:
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(runs)}")
    results: dict[str, object] = {"python": platform.python_version(), "quick": options.quick}
    for name, run in runs.items():
        if name in chosen:
            print(f"measuring {name} ...", flush=True)
            results[name] = run()
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1))
    print(report.tables(results))


if __name__ == "__main__":
    main()
