"""Sees the tests of every phase fail on a build broken for it, and those of earlier phases pass.

    python -m tests.acceptance.broken [PHASE ...]        (or: make broken)

Each breakage of the table has a deployment of its own, started from a broken copy of the package.
With numbers, only the breakages of those phases. Blobs of a megabyte and more are left out: they
take long and break no differently.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from pathlib import Path

from tests.acceptance.broken.table import BREAKAGES, Breakage
from tests.acceptance.deployment import deployed
from tests.patience import VARIABLE

SUITE = Path(__file__).parents[1]
_SMALL = "not 1MB and not 10MB and not 24MB"


def main(arguments: list[str]) -> int:
    """Try the breakages; 0 if each was noticed by its own phase and by no earlier one."""
    phases = {int(each) for each in arguments}
    chosen = [each for each in BREAKAGES if not phases or each.phase in phases]
    unnoticed = [breakage for breakage in chosen if not _noticed(breakage)]
    sys.stdout.write(f"{len(chosen) - len(unnoticed)} of {len(chosen)} breakages noticed.\n")
    return 1 if unnoticed else 0


def _noticed(breakage: Breakage) -> bool:
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="nilometer-broken-") as name:
        folder = Path(name)
        breakage.apply(folder / "source")
        with deployed(folder / "deployment", source=folder / "source") as environment:
            failed = failures(_run(breakage.phase, environment, folder / "report.xml"))
    early = {test for phase, test in failed if phase < breakage.phase}
    noticed = (breakage.phase, breakage.caught_by) in failed and not early
    own = {test for phase, test in failed if phase == breakage.phase}
    sys.stdout.write(
        f"{'noticed  ' if noticed else 'UNNOTICED'} {breakage.name}: "
        f"of the phase {_listed(own)} fail, of earlier ones {_listed(early)}; "
        f"{time.monotonic() - started:.0f} s\n"
    )
    sys.stdout.flush()
    return noticed


def _listed(tests: set[str]) -> str:
    return ", ".join(sorted(tests)) or "none"


def failures(report: Path) -> set[tuple[int, str]]:
    """The tests of a JUnit report that failed or could not run, by phase and function."""
    found: set[tuple[int, str]] = set()
    for case in ET.parse(report).iter("testcase"):
        if case.find("failure") is None and case.find("error") is None:
            continue
        phase = case.find("properties/property[@name='phase']")
        assert phase is not None, case.attrib
        found.add((int(phase.attrib["value"]), re.sub(r"\[.*", "", case.attrib["name"])))
    return found


def _run(phase: int, environment: dict[str, str], report: Path) -> Path:
    """Run the phases up to this one on a deployment."""
    markers = " or ".join(f"phase_{number}" for number in range(1, phase + 1))
    options = ["-q", "-p", "no:randomly", "-m", markers, "-k", _SMALL, f"--junitxml={report}"]
    subprocess.run(
        [sys.executable, "-m", "pytest", str(SUITE), *options],
        # What a broken build never does is waited for no longer than it would take.
        env={**os.environ, **environment, VARIABLE: "1"},
        stdout=subprocess.DEVNULL,
        check=False,
    )
    return report


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
