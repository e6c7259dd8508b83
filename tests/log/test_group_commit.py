"""One thread writes for many senders."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from nilometer.log.append_times import AppendTimes
from nilometer.log.port import LogUnavailable
from nilometer.log.sqlite import SqliteLog, segment, writer
from nilometer.log.sqlite.segment import Row, SegmentWriter
from nilometer.observability.metrics import REGISTRY
from tests.log.logs import drain, envelope, eventually, numbers, open_log, poll


class Gate:
    """Holds the segment's appends until it is opened, so that a batch can gather."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sizes: list[int] = []
        self.error: Exception | None = None
        self._open = threading.Event()
        self._entered = threading.Event()
        real = SegmentWriter.append

        def held(target: SegmentWriter, rows: Sequence[Row], at: int) -> int:
            self._entered.set()
            assert self._open.wait(90)
            self.sizes.append(len(rows))
            if self.error is not None:
                raise self.error
            return real(target, rows, at)

        monkeypatch.setattr(SegmentWriter, "append", held)

    def open(self) -> None:
        self._open.set()

    async def entered(self) -> None:
        assert await asyncio.to_thread(self._entered.wait, 30)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate(monkeypatch)
    yield gate
    gate.open()


def metric(name: str) -> float:
    return REGISTRY.get_sample_value(name) or 0.0


def test_what_waits_during_a_commit_goes_into_the_next_with_one_wake_up(
    tmp_path: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    wake_ups: list[Callable[..., object]] = []

    async def scenario(log: SqliteLog) -> list[int]:
        loop = asyncio.get_running_loop()
        first = asyncio.create_task(log.append(envelope(0)))
        await gate.entered()
        rest = [asyncio.create_task(log.append(envelope(number))) for number in range(1, 201)]
        await asyncio.sleep(0)
        real = loop.call_soon_threadsafe

        def counting(callback: Callable[..., object], *arguments: Any, **named: Any) -> Any:
            wake_ups.append(callback)
            return real(callback, *arguments, **named)

        monkeypatch.setattr(loop, "call_soon_threadsafe", counting)
        gate.open()
        return [position.offset for position in await asyncio.gather(first, *rest)]

    commits = metric("nilometer_log_fsync_seconds_count")
    records = metric("nilometer_log_append_seconds_count")
    with contextlib.closing(open_log(tmp_path)) as log:
        assert asyncio.run(scenario(log)) == list(range(201))
        assert gate.sizes == [1, 200]
        assert len([each for each in wake_ups if each is writer._set_results]) == 2
        assert numbers(drain(log.consumer("a"))) == list(range(201))
    assert metric("nilometer_log_fsync_seconds_count") == commits + 2
    assert metric("nilometer_log_append_seconds_count") == records + 201


def test_one_commit_is_bounded_in_bytes(
    tmp_path: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "MAX_COMMIT_BYTES", 25_000)

    async def scenario(log: SqliteLog) -> None:
        tasks = [asyncio.create_task(log.append(envelope(0)))]
        await gate.entered()
        for number, size in enumerate([10_000] * 5 + [90_000], start=1):
            tasks.append(asyncio.create_task(log.append(envelope(number, size=size))))
        await asyncio.sleep(0)
        gate.open()
        await asyncio.gather(*tasks)

    with contextlib.closing(open_log(tmp_path)) as log:
        asyncio.run(scenario(log))
        assert gate.sizes == [1, 2, 2, 1, 1]
        assert numbers(drain(log.consumer("a"))) == list(range(7))


def test_a_full_queue_refuses_at_once_and_accepts_again(tmp_path: Path, gate: Gate) -> None:
    async def scenario(log: SqliteLog) -> None:
        tasks = [asyncio.create_task(log.append(envelope(0)))]
        await gate.entered()
        tasks += [asyncio.create_task(log.append(envelope(n, size=4000))) for n in (1, 2)]
        await asyncio.sleep(0)
        with pytest.raises(LogUnavailable, match="waiting for the disk") as refused:
            await log.append(envelope(3, size=4000))
        assert refused.value.retry_after == 1
        gate.open()
        await asyncio.gather(*tasks)
        await log.append(envelope(4, size=50_000))  # alone, even a larger one fits

    with contextlib.closing(open_log(tmp_path, max_queued_bytes=10_000)) as log:
        asyncio.run(scenario(log))
        assert numbers(drain(log.consumer("a"))) == [0, 1, 2, 4]


def disk_error(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    "error", [disk_error(sqlite3.SQLITE_IOERR_FSYNC), OSError(errno.EIO, "input/output error")]
)
def test_after_an_io_error_every_sender_fails_and_then_the_process_is_told(
    tmp_path: Path, gate: Gate, error: Exception
) -> None:
    told: list[BaseException] = []

    async def scenario(log: SqliteLog) -> list[Any]:
        tasks = [asyncio.create_task(log.append(envelope(0)))]
        await gate.entered()
        tasks += [asyncio.create_task(log.append(envelope(n))) for n in range(1, 5)]
        await asyncio.sleep(0)
        gate.error = error
        gate.open()
        return await asyncio.gather(*tasks, return_exceptions=True)

    log = open_log(tmp_path, on_fatal=told.append)
    results = asyncio.run(scenario(log))
    assert [type(each) for each in results] == [LogUnavailable] * 5
    eventually(lambda: told == [error])
    assert not log.state().ready
    with pytest.raises(LogUnavailable):
        log.append_blocking(envelope(9))
    log.close()
    assert not (tmp_path / "clean").exists()
    with contextlib.closing(open_log(tmp_path)) as again:
        assert drain(again.consumer("a")) == []


def test_a_closed_event_loop_does_not_stop_the_writer(tmp_path: Path, gate: Gate) -> None:
    async def abandon(log: SqliteLog) -> None:
        task = asyncio.create_task(log.append(envelope(1)))
        await gate.entered()
        task.cancel()

    with contextlib.closing(open_log(tmp_path)) as log:
        asyncio.run(abandon(log))
        gate.open()
        assert log.append_blocking(envelope(2)).offset == 1


def test_a_stuck_disk_shows_in_the_state_without_blocking_it(
    tmp_path: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "STUCK_SECONDS", 0.05)
    with contextlib.closing(open_log(tmp_path)) as log:
        sender = threading.Thread(target=log.append_blocking, args=(envelope(1),))
        sender.start()
        eventually(lambda: "a commit of the log has been running" in log.state().reason)
        assert not log.state().ready
        gate.open()
        sender.join(90)
        eventually(lambda: log.state().ready)


def test_a_new_consumer_takes_over_from_the_one_before(tmp_path: Path) -> None:
    with contextlib.closing(open_log(tmp_path)) as log:
        log.append_blocking(envelope(1))
        before = log.consumer("a")
        records = poll(before)
        after = log.consumer("a")
        with pytest.raises(LogUnavailable):
            before.commit(records)
        assert numbers(poll(after)) == [1]


def test_checkpoints_keep_the_wal_small_and_readers_see_nothing_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segment, "CHECKPOINT_BYTES", 100_000)
    with contextlib.closing(open_log(tmp_path)) as log:
        consumer = log.consumer("a")
        seen: list[int] = []
        for number in range(300):
            log.append_blocking(envelope(number, size=9000))
            seen += numbers(poll(consumer))
        assert seen == list(range(300))
        wal_bytes = sum(path.stat().st_size for path in tmp_path.glob("000*-wal"))
        assert wal_bytes < 400_000


def test_append_times_stay_bounded_and_never_late() -> None:
    times = AppendTimes()
    assert times.at(0) is None
    for offset in range(20_000):
        times.add(offset, offset * 150_000)
    assert len(times._times) <= 4096
    for offset in (0, 1, 4095, 10_000, 19_999):
        found = times.at(offset)
        assert found is not None
        assert 0 <= offset * 150_000 - found <= 8 * 150_000
