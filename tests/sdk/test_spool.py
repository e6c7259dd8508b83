from __future__ import annotations

import errno
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from nilometer.domain.usage_metric import AIUsageMetric
from nilometer.sdk.delivery import spool as spools
from nilometer.sdk.delivery.spool import MAX_SEGMENT_METRICS, Spool, SpoolFull
from nilometer.sdk.sinks.appending import locked
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


def test_dead_letters_have_a_bound_and_whole_lines(tmp_path: Path, monkeypatch: Any):
    spool = Spool(tmp_path, 10**6)
    dead = tmp_path / "dead-letters.jsonl"
    spool.bury([(metrics(1)[0], "bad")])
    kept = dead.read_bytes()
    monkeypatch.setattr(spools, "MAX_DEAD_BYTES", len(kept))
    spool.bury([(metrics(1)[0], "bad")])
    assert dead.read_bytes() == kept
    assert kept.count(b"\n") == 1


def test_a_segment_without_a_line_is_taken_from_the_dead_and_thrown_away(tmp_path: Path):
    (tmp_path / "1-dead.00000001.jsonl").touch()
    spool = Spool(tmp_path, 10**6)
    assert spool.adopt() == []
    assert list(tmp_path.glob("*.jsonl")) == []
    spool.close()
    spool.close()  # and what is closed stays so
    spool.abandon()
    assert list(tmp_path.iterdir()) == []


def test_a_name_whose_lock_another_took_is_given_up_for_another(tmp_path: Path, monkeypatch: Any):
    first = Spool(tmp_path, 10**6)
    kept = first.write(metrics(1))
    owner = kept.path.name.partition(".")[0]
    names = iter([owner, "2-free"])
    monkeypatch.setattr(spools, "_new_owner", lambda: next(names))
    second = Spool(tmp_path, 10**6)
    assert second.write(metrics(1)).path.name.startswith("2-free.")
    assert first.read(kept)


def test_what_is_no_regular_file_is_not_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / "usage.jsonl")
    with pytest.raises(OSError, match="is no regular file"), locked(tmp_path / "usage.jsonl"):
        pass
    sink = JsonlSink(tmp_path / "usage.jsonl")
    with pytest.raises(OSError, match="is no regular file"):
        sink.store(metrics(1))
