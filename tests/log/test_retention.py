"""What is unlinked, what never is, and what an unclean stop reads again."""

from __future__ import annotations

import contextlib
import errno
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nilometer.log.port import LogFull
from nilometer.log.sqlite import SqliteLog, storage, writer
from tests.log import logs
from tests.log.logs import drain, envelope, eventually, numbers, poll

HOUR = 3600 * 1_000_000
SEGMENT = 60_000
RECORD = 20_000


class Clock:
    """Microseconds that pass only when told to."""

    def __init__(self) -> None:
        self.now = 1_700_000_000_000_000

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


OpenLog = Callable[..., SqliteLog]


@pytest.fixture
def open_log(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenLog]:
    monkeypatch.setattr(writer, "IDLE_SECONDS", 0.02)
    monkeypatch.setattr(storage, "UPKEEP_SECONDS", 0.02)
    opened: list[SqliteLog] = []

    def open_again(**changes: Any) -> SqliteLog:
        changes = {"segment_bytes": SEGMENT, "clock": clock} | changes
        opened.append(logs.open_log(tmp_path / "log", **changes))
        return opened[-1]

    yield open_again
    for log in opened:
        log.close()


def segments(tmp_path: Path) -> list[int]:
    return sorted(int(path.stem) for path in (tmp_path / "log").glob("[0-9]*.sqlite"))


def append(log: SqliteLog, first: int, count: int = 10) -> None:
    for number in range(first, first + count):
        log.append_blocking(envelope(number, size=RECORD))


def settled(log: SqliteLog) -> None:
    """Wait until the writer has looked after its segments at least once more."""
    tended = log._storage._tended
    eventually(lambda: log._storage._tended > tended)


def kill(log: SqliteLog, tmp_path: Path) -> None:
    """As a killed process leaves it: without the marker of a clean stop."""
    log.close()
    (tmp_path / "log" / "clean").unlink()


def crash(log: SqliteLog, tmp_path: Path) -> None:
    """As a loss of power leaves it: the system that had it open runs no more."""
    kill(log, tmp_path)
    boot = tmp_path / "log" / "boot"
    _, *directory = boot.read_text().split()
    boot.write_text(" ".join(["of-yesterday", *directory]) + "\n")


def test_segments_that_every_group_has_read_are_unlinked_when_old_enough(
    open_log: OpenLog, clock: Clock, tmp_path: Path
) -> None:
    log = open_log()
    append(log, 0)
    before = segments(tmp_path)
    drain(log.consumer("a"))
    settled(log)
    assert segments(tmp_path) == before
    clock.now += 25 * HOUR
    eventually(lambda: len(segments(tmp_path)) == 1)
    eventually(lambda: len(list((tmp_path / "log").glob("000*.sqlite-wal"))) <= 1)


def test_an_old_segment_that_one_group_has_not_read_stays(
    open_log: OpenLog, clock: Clock, tmp_path: Path
) -> None:
    log = open_log()
    slow = log.consumer("slow")
    append(log, 0)
    drain(log.consumer("fast"))
    clock.now += 100 * HOUR
    settled(log)
    settled(log)
    assert segments(tmp_path)[0] == 0
    assert numbers(poll(slow)) == list(range(10))


def test_nothing_is_unlinked_before_the_first_group_is_known(
    open_log: OpenLog, clock: Clock, tmp_path: Path
) -> None:
    log = open_log()
    append(log, 0)
    clock.now += 100 * HOUR
    settled(log)
    settled(log)
    assert numbers(drain(log.consumer("first"))) == list(range(10))


def test_a_log_that_nobody_has_to_read_is_unlinked_when_it_is_old_enough(
    open_log: OpenLog, clock: Clock, tmp_path: Path
) -> None:
    log = open_log(keep_seconds=3600, needs_readers=False)
    for number in range(12):
        log.append_blocking(envelope(number, size=RECORD))
    assert len(segments(tmp_path)) > 2
    clock.now += 2 * HOUR
    eventually(lambda: len(segments(tmp_path)) <= 2)


def test_a_segment_read_late_stays_as_long_as_an_unclean_stop_would_read_it_again(
    open_log: OpenLog, clock: Clock, tmp_path: Path
) -> None:
    log = open_log()
    consumer = log.consumer("a")
    append(log, 0)
    clock.now += 30 * HOUR
    consumer.commit(poll(consumer))
    settled(log)
    settled(log)
    assert segments(tmp_path)[0] == 0
    clock.now += 2 * HOUR
    eventually(lambda: segments(tmp_path)[0] > 0)


def test_a_segment_is_begun_once_a_day_however_little_is_appended(
    open_log: OpenLog, clock: Clock, tmp_path: Path
) -> None:
    log = open_log()
    log.append_blocking(envelope(1))
    drain(log.consumer("a"))
    clock.now += 25 * HOUR
    eventually(lambda: segments(tmp_path) == [1])
    assert log.append_blocking(envelope(2)).offset == 1


def test_at_its_size_limit_the_log_refuses_and_accepts_again_when_it_was_read(
    open_log: OpenLog, tmp_path: Path
) -> None:
    log = open_log(max_bytes=600_000, rewind_seconds=0)
    with pytest.raises(LogFull, match="limit of 600000 bytes"):
        append(log, 0, 1000)
    state = log.state()
    assert (state.ready, state.full, state.size <= 600_000) == (False, True, True)
    consumer = log.consumer("a")
    assert numbers(drain(consumer)) == list(range(state.depth))
    eventually(lambda: log.state().ready)
    assert log.append_blocking(envelope(5000)).offset == state.depth
    assert numbers(poll(consumer)) == [5000]


def test_at_its_size_limit_the_log_keeps_what_an_unclean_stop_would_read_again(
    open_log: OpenLog, clock: Clock, tmp_path: Path
) -> None:
    log = open_log(max_bytes=600_000, rewind_seconds=3600)
    with pytest.raises(LogFull):
        append(log, 0, 1000)
    drain(log.consumer("a"))
    settled(log)
    settled(log)
    assert not log.state().ready
    clock.now += 2 * HOUR
    eventually(lambda: log.state().ready)


def test_an_unread_log_at_its_limit_stays_whole(open_log: OpenLog, clock: Clock) -> None:
    log = open_log(max_bytes=600_000, rewind_seconds=0)
    consumer = log.consumer("a")
    with pytest.raises(LogFull):
        append(log, 0, 1000)
    clock.now += 100 * HOUR
    depth = log.state().depth
    settled(log)
    settled(log)
    assert numbers(drain(consumer)) == list(range(depth))


def test_offsets_go_on_after_everything_read_was_unlinked_and_a_crash(
    open_log: OpenLog, clock: Clock, tmp_path: Path
) -> None:
    log = open_log()
    append(log, 0)
    drain(log.consumer("a"))
    clock.now += 48 * HOUR
    eventually(lambda: segments(tmp_path) == [10])
    crash(log, tmp_path)
    assert open_log().append_blocking(envelope(10)).offset == 10


def test_offsets_go_on_even_if_no_segment_is_left(open_log: OpenLog, tmp_path: Path) -> None:
    log = open_log()
    append(log, 0)
    drain(log.consumer("a"))
    log.close()
    for path in (tmp_path / "log").glob("[0-9]*.sqlite*"):
        path.unlink()
    assert open_log().append_blocking(envelope(10)).offset == 10


def test_after_a_clean_stop_nothing_is_read_again(open_log: OpenLog) -> None:
    log = open_log()
    append(log, 0)
    drain(log.consumer("a"))
    log.close()
    assert drain(open_log().consumer("a")) == []


def test_a_killed_process_lost_nothing_that_it_wrote_and_reads_nothing_again(
    open_log: OpenLog, tmp_path: Path
) -> None:
    log = open_log()
    append(log, 0)
    drain(log.consumer("a"))
    append(log, 10, 1)
    kill(log, tmp_path)
    assert numbers(drain(open_log().consumer("a"))) == [10]


def test_a_loss_of_power_after_a_kill_is_one_for_the_next_start_too(
    open_log: OpenLog, tmp_path: Path
) -> None:
    log = open_log()
    append(log, 0)
    drain(log.consumer("a"))
    crash(log, tmp_path)
    again = open_log()
    again.consumer("a")
    kill(again, tmp_path)  # before it had read anything again
    assert numbers(drain(open_log().consumer("a"))) == list(range(10))


def test_a_copy_that_is_put_back_is_read_again(open_log: OpenLog, tmp_path: Path) -> None:
    log = open_log()
    append(log, 0)
    drain(log.consumer("a"))
    kill(log, tmp_path)
    (tmp_path / "log").rename(tmp_path / "lost")
    shutil.copytree(tmp_path / "lost", tmp_path / "log")
    assert numbers(drain(open_log().consumer("a"))) == list(range(10))


def test_after_a_write_that_failed_the_next_start_reads_again(
    open_log: OpenLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = open_log(on_fatal=lambda _: None)
    append(log, 0)
    drain(log.consumer("a"))
    log._writer.fail(OSError(errno.EIO, "the disk"))
    log.close()
    assert numbers(drain(open_log().consumer("a"))) == list(range(10))


def test_a_loss_of_power_puts_every_group_back_by_the_rewind_time(
    open_log: OpenLog, clock: Clock, tmp_path: Path
) -> None:
    log = open_log()
    consumer = log.consumer("a")
    log.consumer("never read")
    for number in range(6):  # one record and one commit each half hour
        log.append_blocking(envelope(number))
        consumer.commit(poll(consumer))
        clock.now += HOUR // 2
    crash(log, tmp_path)
    clock.now += 50 * HOUR  # how long the machine was off does not matter
    again = open_log()
    assert numbers(drain(again.consumer("a"))) == [4, 5]
    assert numbers(drain(again.consumer("never read"))) == list(range(6))


def test_the_rewind_covers_old_records_that_were_read_lately(
    open_log: OpenLog, clock: Clock, tmp_path: Path
) -> None:
    log = open_log()
    consumer = log.consumer("a")
    for number in range(5):  # a backlog of five hours ...
        log.append_blocking(envelope(number))
        clock.now += HOUR
    while records := poll(consumer, max_records=1):  # ... that is read in five minutes
        consumer.commit(records)
        clock.now += HOUR // 60
    crash(log, tmp_path)
    assert numbers(drain(open_log().consumer("a"))) == list(range(5))


def test_a_second_loss_of_power_while_reading_again_loses_nothing(
    open_log: OpenLog, clock: Clock, tmp_path: Path
) -> None:
    log = open_log()
    drain(log.consumer("a"))
    append(log, 0, 4)
    clock.now += HOUR // 2
    drain(log.consumer("a"))
    crash(log, tmp_path)
    log = open_log()
    consumer = log.consumer("a")
    clock.now += HOUR // 2
    consumer.commit(poll(consumer, max_records=1))
    clock.now += HOUR // 2
    consumer.commit(poll(consumer, max_records=1))
    crash(log, tmp_path)
    assert numbers(drain(open_log().consumer("a"))) == [0, 1, 2, 3]


def test_a_crash_before_the_first_record_is_harmless(open_log: OpenLog, tmp_path: Path) -> None:
    crash(open_log(), tmp_path)
    log = open_log()
    assert log.append_blocking(envelope(1)).offset == 0
    with contextlib.closing(log.consumer("a")) as consumer:
        assert numbers(poll(consumer)) == [1]


def test_append_times_never_go_back_with_the_clock(open_log: OpenLog, clock: Clock) -> None:
    log = open_log()
    log.append_blocking(envelope(1, size=15_000))
    clock.now -= HOUR
    log.append_blocking(envelope(2, size=15_000))
    clock.now += 2 * HOUR
    log.append_blocking(envelope(3))
    consumer = log.consumer("a")
    drain(consumer)
    consumer.rewind(clock.now - HOUR)
    assert numbers(poll(consumer)) == [1, 2, 3]
