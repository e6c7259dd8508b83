"""Fails where a room of usage tracking has fewer than 95% of its lines, or of its branches, run by
its tests. `make coverage` calls it with the report that `coverage json` has written."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

ROOMS = ("sdk", "integrations", "usage", "budgets", "dynamodb", "pricing")
LEAST = 95.0
_PACKAGE = "src/nilometer/"


def counts(report: dict[str, Any]) -> dict[str, list[int]]:
    """Of each room: lines run and lines, branches run and branches."""
    found: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for path, file in report["files"].items():
        room = path.partition(_PACKAGE)[2].partition("/")[0]
        summary = file["summary"]
        names = ("covered_lines", "num_statements", "covered_branches", "num_branches")
        for place, name in enumerate(names):
            found[room][place] += summary[name]
    return found


def main(path: str) -> int:
    """The exit status: 1 where a room has too few, or is not in the report."""
    found = counts(json.loads(Path(path).read_text()))
    status = 0
    print(f"{'':14}{'lines':>8}{'branches':>10}")
    for room in ROOMS:
        lines, of_lines, branches, of_branches = found.get(room, [0, 0, 0, 0])
        shares = [100 * lines / (of_lines or 1), 100 * branches / (of_branches or 1)]
        short = min(shares) < LEAST
        status |= int(short)
        print(f"{room:14}{shares[0]:7.1f}%{shares[1]:9.1f}%{'  too few' if short else ''}")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
