from __future__ import annotations

import errno
import json
import os
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from nilometer.domain.usage_metric import AIUsageMetric
from nilometer.sdk.appending import locked
from nilometer.sdk.delivery import spool as spools
from nilometer.sdk.delivery.spool import MAX_SEGMENT_METRICS, Spool, SpoolFull
from nilometer.sdk.sinks.jsonl import JsonlSink


def metrics(count: int) -> list[AIUsageMetric]:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return [
        AIUsageMetric(service="acme", model="m", operation="x", timestamp=at) for _ in range(count)
    ]


def refuse(*_: Any, **__: Any) -> Any:
    raise PermissionError(errno.EACCES, "Permission denied", "name of a file")


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


@pytest.mark.parametrize("refused", ["rename", "unlink"])
def test_what_cannot_be_renamed_or_removed_is_written_once_all_the_same(
    tmp_path: Path, monkeypatch: Any, caplog: pytest.LogCaptureFixture, refused: str
):
    sink = JsonlSink(tmp_path / "usage.jsonl", rotate=100, keep=1)
    with monkeypatch.context() as context:
        context.setattr(Path, refused, refuse)
        for each in metrics(4):
            assert sink.store([each]) == []
    lines = [line for file in tmp_path.iterdir() for line in file.read_text().splitlines()]
    assert len(lines) == len(set(lines)) == 4
    assert caplog.text.count("usage.jsonl cannot be rotated: Permission denied") == 1
    assert sink.store(metrics(1)) == []  # and when it can be, it is
    assert len(list(tmp_path.glob("usage.jsonl.*"))) == 1


def test_a_rotated_file_that_cannot_be_removed_keeps_no_other(tmp_path: Path):
    (tmp_path / "usage.jsonl.0Z").mkdir()
    sink = JsonlSink(tmp_path / "usage.jsonl", rotate=100, keep=1)
    for each in metrics(3):
        sink.store([each])
    assert len(list(tmp_path.glob("usage.jsonl.2*"))) == 1


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


def test_a_dead_letter_is_not_glued_to_one_that_was_cut_short(tmp_path: Path):
    dead = tmp_path / "dead-letters.jsonl"
    dead.write_bytes(b'{"reason": "of a machine that lost its pow')
    spool = Spool(tmp_path, 10**6)
    for _ in range(2):
        spool.bury([(metrics(1)[0], "bad")])
    _, *letters = dead.read_text().splitlines()
    assert [json.loads(each)["reason"] for each in letters] == ["bad", "bad"]


def test_dead_letters_that_somebody_renamed_are_nobodys_segments(tmp_path: Path):
    kept = tmp_path / "dead-letters.old.jsonl"
    kept.write_bytes(b'{"reason": "bad"}\n')
    spool = Spool(tmp_path, 10**6)
    assert spool.adopt() == []
    assert kept.exists()


def test_dead_letters_are_kept_though_somebody_holds_their_file(tmp_path: Path):
    spool = Spool(tmp_path, 10**6)
    spool.bury([(metrics(1)[0], "first")])
    with locked(tmp_path / "dead-letters.jsonl"):
        burying = threading.Thread(
            target=spool.bury, args=([(metrics(1)[0], "second")],), daemon=True
        )
        burying.start()
        burying.join(30)
        assert not burying.is_alive()


def test_a_segment_without_a_line_is_taken_from_the_dead_and_thrown_away(tmp_path: Path):
    (tmp_path / "1-dead.00000001.jsonl").touch()
    spool = Spool(tmp_path, 10**6)
    assert spool.adopt() == []
    assert list(tmp_path.glob("*.jsonl")) == []
    spool.close()
    spool.close()  # and what is closed stays so
    spool.abandon()
    assert list(tmp_path.iterdir()) == []


def left_behind(folder: Path, name: str, count: int = 1, cut_short: bytes = b"") -> list[Any]:
    """What a process that is gone has left."""
    kept = metrics(count)
    lines = "".join(f"{each.to_json()}\n" for each in kept).encode()
    (folder / f"{name}.jsonl").write_bytes(lines + cut_short)
    return kept


def test_what_cannot_be_taken_from_the_dead_keeps_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    left = [left_behind(tmp_path, f"{name}-dead.00000001") for name in (1, 2, 3)]
    left_behind(tmp_path, "4-dead.00000001")
    folders = [tmp_path / "2-dead.00000000.jsonl", tmp_path / "4-dead.lock"]
    for each in folders:
        each.mkdir()  # which nobody can open as a file
    spool = Spool(tmp_path, 10**6)
    found = spool.adopt()
    assert [spool.read(each) for each in found] == left
    assert caplog.text.count("cannot be taken over: Is a directory") == 1
    assert spool.adopt() == []
    assert all(each.is_dir() for each in folders)
    folders[1].rmdir()  # and then it can
    [late] = spool.adopt()
    assert spool.read(late)
    for each in (*found, late):
        spool.remove(each)
    spool.close()
    folders[0].rmdir()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("refused", ["rename", "unlink"])
def test_what_cannot_be_renamed_stays_and_a_lock_that_does_is_no_harm(
    tmp_path: Path, monkeypatch: Any, refused: str
):
    kept = left_behind(tmp_path, "1-dead.00000001")
    spool = Spool(tmp_path, 10**6)
    with monkeypatch.context() as context:
        context.setattr(Path, refused, refuse)
        first = spool.adopt()
    both = [*first, *spool.adopt()]
    assert [spool.read(each) for each in both] == [kept]


def test_a_line_that_a_crash_cut_short_takes_no_other_with_it(tmp_path: Path):
    kept, more = left_behind(tmp_path, "1-dead.00000001", 2, b'{"schema_ver'), metrics(1)
    spool = Spool(tmp_path, 10**6)
    [segment] = spool.adopt()
    assert (segment.count, spool.read(segment)) == (2, kept)
    assert spool.extend(segment, more)
    assert (segment.count, spool.read(segment)) == (3, [*kept, *more])
    assert segment.path.stat().st_size == segment.size


def test_a_line_that_the_disk_cut_short_and_kept_takes_no_other_with_it(
    tmp_path: Path, disk_fills: Any, monkeypatch: Any
):
    spool = Spool(tmp_path, 10**6)
    kept, more = metrics(2), metrics(1)
    segment = spool.write(kept)
    with monkeypatch.context() as context:
        context.setattr("os.ftruncate", refuse)
        disk_fills()
        with pytest.raises(OSError, match="No space"):
            spool.extend(segment, metrics(1))
    monkeypatch.undo()
    assert segment.path.stat().st_size > segment.size
    assert spool.read(segment) == kept
    assert spool.extend(segment, more)
    assert spool.read(segment) == [*kept, *more]


def test_lines_that_were_not_promised_are_not_read(tmp_path: Path, monkeypatch: Any):
    spool = Spool(tmp_path, 10**6)
    kept = metrics(2)
    segment = spool.write(kept)
    with monkeypatch.context() as context:
        context.setattr("os.fsync", refuse)
        context.setattr("os.ftruncate", refuse)
        with pytest.raises(PermissionError):
            spool.extend(segment, metrics(1))  # they are kept in memory, or in another file
    assert (segment.count, spool.read(segment)) == (2, kept)


def test_a_folder_that_knows_no_locks_is_no_spool(tmp_path: Path, monkeypatch: Any):
    def unknown(*_: Any) -> Any:
        raise OSError(errno.ENOLCK, "No locks available")

    left_behind(tmp_path, "1-dead.00000001")
    monkeypatch.setattr("fcntl.flock", unknown)
    spool = Spool(tmp_path, 10**6)
    assert spool.adopt() == []
    for _ in range(2):
        with pytest.raises(OSError, match="No locks"):
            spool.write(metrics(1))
    assert len(list(tmp_path.glob("*.lock"))) <= 2  # the dead one's, and its own


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
