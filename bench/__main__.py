"""`make bench`: every measurement in one run. `make bench ARGS=--quick` takes about two minutes.

Writes .build/bench/results.json and prints the tables of the README.
"""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path

from bench import acknowledge, footprint, large, queryable, report

RESULTS = Path(".build/bench/results.json")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="shorter runs, same measurements")
    parser.add_argument("--only", choices=["acknowledge", "queryable", "large", "footprint"])
    options = parser.parse_args()
    runs = {
        "footprint": footprint.measure,
        "acknowledge": lambda: acknowledge.measure(3 if options.quick else 10),
        "queryable": lambda: queryable.measure(30 if options.quick else 600),
        "large": lambda: large.measure(100 if options.quick else 1000),
    }
    results: dict[str, object] = {"python": platform.python_version(), "quick": options.quick}
    for name, run in runs.items():
        if options.only in (None, name):
            print(f"measuring {name} ...", flush=True)
            results[name] = run()
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1))
    print(report.tables(results))


if __name__ == "__main__":
    main()
