"""What a killed process leaves: every insert that returned, whole, and no prompt lying about."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clickhouse.inserting import ROWS


def test_a_kill_during_inserts_loses_nothing_and_halves_nothing(tmp_path: Path):
    directory, temporary = tmp_path / "store", tmp_path / "tmp"
    temporary.mkdir()
    environment = os.environ | {"TMPDIR": str(temporary)}
    acknowledged = _insert_and_kill(directory, environment, inserts=25)
    assert list(temporary.iterdir()) == [], "an insert went through a file outside the data"

    found = _read(directory, environment)
    counts = {int(project): count for project, count in found["rows"].items()}
    assert found["healthy"]
    assert set(counts.values()) == {ROWS}, "an insert is all there or not at all"
    assert set(counts) >= set(range(acknowledged + 1)), "an insert that returned is there"
    assert set(counts) <= set(range(acknowledged + 2)), "only one insert was under way"


@pytest.mark.parametrize(
    "left", ["engine/tmp/spill.tmp", "engine/tmp/nested/spill.tmp", "tmp/rows"]
)
def test_temporary_files_of_a_killed_process_are_swept_at_the_next_start(tmp_path: Path, left: str):
    leftover = tmp_path / left
    leftover.parent.mkdir(parents=True)
    leftover.write_text("a prompt")
    assert _read(tmp_path, dict(os.environ))["rows"] == {}
    assert not leftover.exists()


def _insert_and_kill(directory: Path, environment: dict[str, str], *, inserts: int) -> int:
    """Kill -9 while an insert is under way; the number of the last one that returned."""
    command = [sys.executable, "-m", "tests.clickhouse.inserting", str(directory)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = [int(process.stdout.readline()) for _ in range(inserts)]
        process.kill()
        said += [int(line) for line in process.stdout if line.endswith("\n")]
    return said[-1]


def _read(directory: Path, environment: dict[str, str]) -> dict[str, object]:
    command = [sys.executable, "-m", "tests.clickhouse.reading", str(directory)]
    done = subprocess.run(
        command, check=False, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
