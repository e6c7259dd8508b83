"""Run an implementation against the cases: python -m conformance --command "…"."""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from typing import Any

from conformance.cases import faults, load, question

OURS = f"{shlex.quote(sys.executable)} -m conformance.nilometer"


def main() -> int:
    """Ask every question, judge every answer; 1 if any is wrong."""
    parser = argparse.ArgumentParser(prog="conformance", description=__doc__)
    parser.add_argument("--command", default=OURS, help="default: Nilometer's own")
    parser.add_argument("--timeout", type=float, default=300, help="seconds for all cases")
    options = parser.parse_args()
    cases = dict(load())
    answers = ask(options.command, [question(case) for case in cases.values()], options.timeout)
    wrong = 0
    for (name, case), answer in zip(cases.items(), answers, strict=True):
        found = faults(case, answer)
        wrong += bool(found)
        for fault in found:
            print(f"{name}\n    {fault}")
    print(f"{len(cases) - wrong} of {len(cases)} right")
    return int(wrong > 0)


def ask(command: str, questions: list[dict[str, Any]], timeout: float) -> list[dict[str, Any]]:
    """The answers to all questions, one JSON line each way. Exits if there are not as many."""
    lines = "".join(f"{json.dumps(each)}\n" for each in questions)
    done = subprocess.run(
        shlex.split(command),
        check=False,  # what it answered is judged, however it ended
        input=lines,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    answers = [json.loads(line) for line in done.stdout.splitlines() if line.strip()]
    if len(answers) != len(questions):
        sys.exit(f"{len(questions)} questions, {len(answers)} answers\n{done.stderr[-2000:]}")
    return answers


if __name__ == "__main__":
    sys.exit(main())
