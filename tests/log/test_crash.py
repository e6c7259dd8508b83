"""Power, process and disk fail; what was acknowledged stays, once."""

from __future__ import annotations

import contextlib
import errno
import random
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.log.logs import drain, eventually, numbers, open_log
from tests.small_disk import on_a_small_disk

ROOT = Path(__file__).parents[2]


def start(*arguments: str | int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.log.appending", *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def parse(lines: Sequence[str]) -> dict[int, int]:
    """Offset by number, of what was acknowledged; a last line cut short is left out."""
    whole = [line for line in lines if line.endswith("\n")]
    return {int(number): int(offset) for number, offset in map(str.split, whole)}


def run_and_kill(directory: Path, first: int, enough: int) -> dict[int, int]:
    lines: list[str] = []
    with start(directory, first) as process:
        assert process.stdout is not None
        reader = threading.Thread(target=lines.extend, args=(process.stdout,))
        reader.start()
        try:
            eventually(lambda: len(lines) >= enough or process.poll() is not None)
        finally:
            process.kill()
            reader.join()
    assert process.returncode == -9
    return parse(lines)


def test_every_acknowledged_record_is_there_once_after_kill_9(tmp_path: Path) -> None:
    acknowledged: dict[int, int] = {}
    for round_number in range(3):
        first = round_number * 1_000_000
        acknowledged |= run_and_kill(tmp_path / "log", first, random.randint(50, 600))
        with contextlib.closing(open_log(tmp_path / "log")) as log:
            records = drain(log.consumer(f"round {round_number}"), commit=False)
        offsets = [each.position.offset for each in records]
        found = dict(zip(numbers(records), offsets, strict=True))
        assert offsets == list(range(len(records)))
        assert len(found) == len(records)
        assert {number: found.get(number) for number in acknowledged} == acknowledged


def run_with_fault(directory: Path, calls: str, error: int) -> tuple[int, str]:
    with start(directory, 0, calls, error) as process:
        output, errors = process.communicate(timeout=60)
    acknowledged = parse(output.splitlines(keepends=True))
    assert len(acknowledged) == 20
    with contextlib.closing(open_log(directory)) as log:
        found = numbers(drain(log.consumer("a"), commit=False))
    # What was not acknowledged may be there after a crash, but only behind what was.
    assert found[:20] == list(acknowledged)
    return process.returncode, errors


@pytest.mark.parametrize("calls", ["fsync+fdatasync", "fdatasync"])
def test_a_failed_fsync_ends_the_process_and_acknowledges_nothing(
    tmp_path: Path, calls: str
) -> None:
    status, errors = run_with_fault(tmp_path / "log", calls, errno.EIO)
    assert status == 70
    assert "the log cannot go on" in errors


def test_a_failed_write_ends_the_process(tmp_path: Path) -> None:
    status, _ = run_with_fault(tmp_path / "log", "pwrite64", errno.EIO)
    assert status == 70


def test_an_exceeded_quota_refuses_and_goes_on(tmp_path: Path) -> None:
    status, _ = run_with_fault(tmp_path / "log", "pwrite64+write", errno.EDQUOT)
    assert status == 10


@pytest.mark.parametrize("way", ["statvfs", "sqlite"])
def test_a_full_disk_refuses_whole_batches_and_recovers_by_itself(tmp_path: Path, way: str) -> None:
    disk = tmp_path / "disk"
    command = [sys.executable, "-m", "tests.log.filling", str(disk), way]
    done = subprocess.run(
        on_a_small_disk(disk, "4m", command),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
