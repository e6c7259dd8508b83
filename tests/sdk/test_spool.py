from __future__ import annotations

import errno
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from nilometer.domain.usage_metric import AIUsageMetric
from nilometer.sdk.delivery.spool import MAX_SEGMENT_METRICS, Spool, SpoolFull
from nilometer.sdk.sinks.jsonl import JsonlSink


def metrics(count: int) -> list[AIUsageMetric]:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return [
        AIUsageMetric(service="acme", model="m", operation="x", timestamp=at) for _ in range(count)
    ]


@pytest.fixture
def disk_fills(monkeypatch: Any):
    """From now on writes stop in the middle of a line."""

    def fill() -> None:
        write = os.write
        room = [100]

        def full(file: int, data: Any) -> int:
            if not room[0]:
                raise OSError(errno.ENOSPC, "No space left on device")
            written = write(file, data[: room[0]])
            room[0] -= written
            return written

        monkeypatch.setattr("os.write", full)

    yield fill
    monkeypatch.undo()


def test_what_is_written_can_be_read_and_added_to(tmp_path: Path):
    spool = Spool(tmp_path, 10**6)
    first, second = metrics(3), metrics(2)
    segment = spool.write(first)
    assert spool.extend(segment, second)
    assert spool.read(segment) == [*first, *second]
    assert not spool.extend(segment, metrics(MAX_SEGMENT_METRICS))
    assert segment.count == 5
    spool.remove(segment)
    spool.close()
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_the_disk_cuts_short_leaves_what_was_there(tmp_path: Path, disk_fills: Any):
    spool = Spool(tmp_path, 10**6)
    kept = metrics(2)
    segment = spool.write(kept)
    disk_fills()
    with pytest.raises(OSError, match="No space"):
        spool.extend(segment, metrics(1))
    assert spool.read(segment) == kept
    assert segment.path.stat().st_size == segment.size
    with pytest.raises(OSError, match="No space"):
        spool.write(metrics(1))
    assert list(tmp_path.glob("*.jsonl")) == [segment.path]


def test_a_file_of_metrics_has_whole_lines_only(tmp_path: Path, disk_fills: Any):
    sink = JsonlSink(tmp_path / "usage.jsonl")
    assert sink.store(metrics(2)) == []
    before = (tmp_path / "usage.jsonl").read_bytes()
    disk_fills()
    with pytest.raises(OSError, match="No space"):
        sink.store(metrics(1))
    assert (tmp_path / "usage.jsonl").read_bytes() == before


def test_only_the_newest_rotated_files_are_kept_when_that_is_asked(tmp_path: Path):
    sink = JsonlSink(tmp_path / "usage.jsonl", rotate=100, keep=2)
    for _ in range(5):
        sink.store(metrics(1))
    assert len(list(tmp_path.glob("usage.jsonl.*"))) == 2


def test_the_spool_has_a_bound(tmp_path: Path):
    spool = Spool(tmp_path, 700)
    segment = spool.write(metrics(3))
    with pytest.raises(SpoolFull):
        spool.write(metrics(3))
    with pytest.raises(SpoolFull):
        spool.extend(segment, metrics(3))
    spool.remove(segment)
    assert spool.write(metrics(3)).count == 3
