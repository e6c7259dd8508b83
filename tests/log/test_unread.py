"""What a closed log's groups have not read, told without changing the log."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from nilometer.log.sqlite.segment import LogCorrupt
from nilometer.log.sqlite.unread import UnreadRecords
from tests.log.logs import envelope, numbers, open_log, poll


def unread(directory: Path, rewind_seconds: float = 3600) -> list[int]:
    return numbers(list(UnreadRecords(directory, rewind_seconds=rewind_seconds)))


def filled(directory: Path, *, read: int, total: int = 20) -> None:
    with closing(open_log(directory, segment_bytes=16_384)) as log:
        for number in range(total):
            log.append_blocking(envelope(number, size=3000))
        if read:
            consumer = log.consumer("store")
            consumer.commit(poll(consumer, max_records=read))


@pytest.mark.parametrize("read", [0, 1, 7, 20])
def test_what_was_not_committed_is_unread(tmp_path: Path, read: int):
    filled(tmp_path, read=read)
    found = UnreadRecords(tmp_path, rewind_seconds=3600)
    assert numbers(list(found)) == numbers(list(found)) == list(range(read, 20))
    assert (found.start, found.end, len(found)) == (read, 20, 20 - read)


def test_the_slowest_group_counts(tmp_path: Path):
    filled(tmp_path, read=15)
    with closing(open_log(tmp_path)) as log:
        other = log.consumer("other")
        other.commit(poll(other, max_records=4))
    assert unread(tmp_path) == list(range(4, 20))


def test_after_an_unclean_stop_what_was_read_lately_is_unread_again(tmp_path: Path):
    filled(tmp_path, read=15)
    (tmp_path / "clean").unlink()
    assert unread(tmp_path) == list(range(20))
    assert unread(tmp_path, rewind_seconds=0) == list(range(15, 20))


def test_nothing_changes(tmp_path: Path):
    filled(tmp_path, read=5)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert unread(tmp_path) == list(range(5, 20))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_empty_log_and_none_have_nothing_unread(tmp_path: Path):
    open_log(tmp_path / "log").close()
    assert unread(tmp_path / "log") == []
    assert unread(tmp_path / "none") == []


def test_a_missing_segment_is_told_and_not_passed(tmp_path: Path):
    filled(tmp_path, read=2)
    segments = sorted(tmp_path.glob("0*.sqlite"))
    segments[5].unlink()
    with pytest.raises(LogCorrupt, match="lacks the records from offset 5 to 5"):
        unread(tmp_path)


def test_a_missing_end_is_told(tmp_path: Path):
    filled(tmp_path, read=2)
    max(tmp_path.glob("0*.sqlite")).unlink()
    with pytest.raises(LogCorrupt, match="lacks the records from offset 19 to 19"):
        unread(tmp_path)
