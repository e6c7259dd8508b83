"""Time to ready, idle memory, installed size."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from tests.running import Server


def measure() -> dict[str, Any]:
    """The second start over the same directory counts; the first also makes the databases."""
    with tempfile.TemporaryDirectory() as directory:
        first = _start(Path(directory))
        second = _start(Path(directory))
    return {"first_start": first, "second_start": second, "installed_mb": _installed_mb()}


def _start(directory: Path) -> dict[str, Any]:
    begin = time.perf_counter()
    server = Server(directory).start().wait_ready("capture")
    capture = time.perf_counter() - begin
    server.wait_ready("api")
    everything = time.perf_counter() - begin
    time.sleep(15)
    idle = server.resident_bytes() >> 20
    server.stop()
    return {
        "capture_ready_s": round(capture, 2),
        "all_ready_s": round(everything, 2),
        "idle_mb": idle,
    }


def _installed_mb() -> int:
    """What `pip install 'nilometer[server]'` puts on the disk: the packages that
    requirements.txt names, by the files that they record."""
    names = {
        line.split("==")[0]
        for line in Path("requirements.txt").read_text().splitlines()
        if "==" in line and not line.startswith(" ")
    }
    total = 0
    for package in distributions():
        if package.metadata["Name"].lower().replace("_", "-") in names:
            files = package.files or []
            total += sum(
                Path(str(file.locate())).stat().st_size
                for file in files
                if Path(str(file.locate())).is_file()
            )
    own = subprocess.run(["du", "-sb", "src"], capture_output=True, text=True, check=True)
    return (total + int(own.stdout.split()[0])) >> 20


if __name__ == "__main__":
    sys.stdout.write(f"{measure()}\n")
