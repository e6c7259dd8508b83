"""What every log promises. Each implementation runs these tests on itself.

Records of one partition are in order; between partitions there is none. A log of one partition is
held to the order of all its records.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from nilometer.log.port import Consumer, Lag, Log, LogUnavailable, Position, Record
from tests.log.logs import envelope, eventually, numbers, poll, read, read_all

OpenLog = Callable[[], Log]


class LogContract:
    """Subclasses give the fixture `open_log`: each call opens the same log anew, after the one
    before was closed. `partitions` is how many it has."""

    partitions = 1

    @pytest.fixture
    def log(self, open_log: OpenLog) -> Log:
        return open_log()

    def same(self, records: Sequence[Record], expected: Sequence[int]) -> bool:
        """Whether these are the records of these numbers: in this order, if there is one."""
        found = numbers(list(records))
        return found == list(expected) if self.partitions == 1 else sorted(found) == list(expected)

    def test_records_are_read_in_the_order_of_their_positions(self, log: Log) -> None:
        positions = [log.append_blocking(envelope(number)) for number in range(20)]
        records = read_all(log.consumer("a"), 20)
        assert len(set(positions)) == 20
        for partition in {position.partition for position in positions}:
            written = [each for each in positions if each.partition == partition]
            assert written == sorted(written)
            assert written == [p for p in map(_position, records) if p.partition == partition]
        sent = dict(zip(positions, range(20), strict=True))
        assert numbers(records) == [sent[each.position] for each in records]
        assert self.same(records, range(20))

    def test_who_does_not_wait_for_each_appends_many_at_once(self, log: Log) -> None:
        futures = [log.append_soon(envelope(number)) for number in range(50)]
        positions = [future.result(90) for future in futures]
        records = read_all(log.consumer("a"), 50)
        assert self.same(records, range(50))
        sent = dict(zip(positions, range(50), strict=True))
        assert numbers(records) == [sent[each.position] for each in records]

    def test_a_record_comes_back_byte_for_byte(self, log: Log) -> None:
        sent = envelope(7, size=3_000_000)
        log.append_blocking(sent)
        (record,) = read(log.consumer("a"), 1)
        assert (record.headers, record.payload) == (sent.headers(), sent.payload)

    def test_an_uncommitted_record_is_handed_out_again_after_a_restart(
        self, open_log: OpenLog
    ) -> None:
        log = open_log()
        for number in range(5):
            log.append_blocking(envelope(number))
        consumer = log.consumer("a")
        records = read(consumer, 5)
        consumer.commit(records[:2])
        assert poll(consumer, timeout=0.2) == []
        log.close()
        rest = sorted(numbers(records[2:]))
        assert self.same(read_all(open_log().consumer("a"), 3), rest)

    def test_a_new_consumer_of_the_group_begins_at_the_last_commit(self, log: Log) -> None:
        for number in range(5):
            log.append_blocking(envelope(number))
        first = log.consumer("a")
        committed = read(first, 3)
        first.commit(committed)
        rest = read(first, 2)
        first.close()
        assert self.same(read_all(log.consumer("a"), 2), sorted(numbers(rest)))

    def test_committing_an_older_record_never_moves_a_group_back(self, log: Log) -> None:
        for number in range(4):
            log.append_blocking(envelope(number))
        consumer = log.consumer("a")
        records = read(consumer, 4)
        consumer.commit(records)
        consumer.commit(records[:1])
        consumer.commit([])
        consumer.close()
        log.append_blocking(envelope(4))
        assert numbers(read_all(log.consumer("a"), 1)) == [4]

    def test_groups_are_independent(self, log: Log) -> None:
        for number in range(3):
            log.append_blocking(envelope(number))
        read_all(log.consumer("a"), 3)
        assert self.same(read_all(log.consumer("b"), 3), range(3))
        eventually(lambda: _behind(log, "a") == 0 and _behind(log, "b") == 0)

    def test_a_group_that_comes_late_reads_from_the_oldest_record(self, log: Log) -> None:
        log.append_blocking(envelope(1))
        read_all(log.consumer("a"), 1)
        log.append_blocking(envelope(2))
        assert self.same(read_all(log.consumer("late"), 2), [1, 2])

    def test_rewind_hands_out_again_what_was_appended_since(self, log: Log) -> None:
        log.append_blocking(envelope(1))
        since = _a_later_moment()
        log.append_blocking(envelope(2))
        log.append_blocking(envelope(3))
        consumer = log.consumer("a")
        read_all(consumer, 3)
        consumer.rewind(since)
        assert self.same(read_all(consumer, 2), [2, 3])

    def test_rewind_hands_out_again_what_was_in_hand(self, log: Log) -> None:
        since = _a_later_moment()
        for number in range(4):
            log.append_blocking(envelope(number))
        consumer = log.consumer("a")
        records = read(consumer, 4)
        consumer.commit(records[:1])
        consumer.rewind(since)
        assert self.same(read_all(consumer, 4), range(4))

    def test_rewind_survives_a_restart(self, open_log: OpenLog) -> None:
        log = open_log()
        log.append_blocking(envelope(1))
        consumer = log.consumer("a")
        read_all(consumer, 1)
        consumer.rewind(0)
        log.close()
        assert numbers(read_all(open_log().consumer("a"), 1)) == [1]

    def test_rewind_never_moves_forward(self, log: Log) -> None:
        log.append_blocking(envelope(1))
        log.append_blocking(envelope(2))
        consumer = log.consumer("a")
        consumer.rewind(_a_later_moment())
        assert self.same(read_all(consumer, 2), [1, 2])

    def test_a_poll_is_bounded_by_records(self, log: Log) -> None:
        for number in range(5):
            log.append_blocking(envelope(number))
        consumer = log.consumer("a")
        found: list[Record] = []
        while len(found) < 5:
            records = poll(consumer, max_records=2, timeout=0.5)
            assert len(records) <= 2
            found += records
        assert self.same(found, range(5))

    def test_a_poll_is_bounded_by_bytes_but_for_one_larger_record(self, log: Log) -> None:
        for number in range(5):
            log.append_blocking(envelope(number, size=1000))
        consumer = log.consumer("a")
        (first,) = _poll_until_some(consumer, max_bytes=10)
        two = len(envelope(1).headers()) * 2 + 2000
        found = [first]
        while len(found) < 5:
            records = _poll_until_some(consumer, max_bytes=two)
            assert len(records) <= 2
            found += records
        assert self.same(found, range(5))

    def test_a_waiting_poll_returns_when_a_record_comes(self, log: Log) -> None:
        consumer = log.consumer("a")
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(poll, consumer, timeout=30)
            log.append_blocking(envelope(1))
            assert numbers(waiting.result(90)) == [1]

    def test_a_poll_with_nothing_to_read_ends_after_its_timeout(self, log: Log) -> None:
        consumer = log.consumer("a")
        started = time.monotonic()
        assert poll(consumer, timeout=0.05) == []
        assert 0.04 <= time.monotonic() - started < 5

    def test_lag_counts_what_a_group_has_not_committed(self, log: Log) -> None:
        consumer = log.consumer("a")
        assert poll(consumer, timeout=0.05) == []
        eventually(lambda: _lag(log, "a") == Lag(0, None))
        before = time.time_ns() // 1000
        for number in range(3):
            log.append_blocking(envelope(number))
        consumer.commit(read(consumer, 1))
        eventually(lambda: _behind(log, "a") == 2)
        lag = _lag(log, "a")
        assert lag is not None
        assert lag.oldest_at is not None
        # A state that is read now and then knows the time to its interval, and never late.
        assert before - 5_000_000 <= lag.oldest_at <= time.time_ns() // 1000

    def test_lag_counts_what_was_there_before_the_log_was_opened(self, open_log: OpenLog) -> None:
        before = time.time_ns() // 1000
        log = open_log()
        for number in range(4):
            log.append_blocking(envelope(number))
        after = time.time_ns() // 1000
        consumer = log.consumer("a")
        consumer.commit(read(consumer, 1))
        log.close()
        again = open_log()
        eventually(lambda: _oldest_at(again, "a") is not None)
        oldest = _oldest_at(again, "a")
        assert _behind(again, "a") == 3
        assert oldest is not None
        assert before - 1000 <= oldest <= after

    def test_the_state_tells_depth_size_and_readiness(self, log: Log) -> None:
        assert log.state().depth == 0
        log.append_blocking(envelope(1, size=100_000))
        eventually(lambda: log.state().depth == 1)
        state = log.state()
        assert (state.ready, state.reason) == (True, "")
        assert state.size is None or state.size >= 100_000

    def test_thousands_of_appends_from_several_loops_and_threads_are_each_read_once(
        self, log: Log
    ) -> None:
        acknowledged: dict[int, Position] = {}

        async def one(number: int) -> None:
            acknowledged[number] = await log.append(envelope(number))

        async def many(first: int) -> None:
            await asyncio.gather(*(one(first + number) for number in range(1000)))

        def blocking(first: int) -> None:
            for number in range(first, first + 50):
                acknowledged[number] = log.append_blocking(envelope(number))

        threads = [
            *(threading.Thread(target=asyncio.run, args=(many(n * 1000),)) for n in range(3)),
            *(threading.Thread(target=blocking, args=(10_000 + n * 50,)) for n in range(4)),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        records = read_all(log.consumer("a"), 3200)
        assert len(acknowledged) == 3200
        found = dict(zip(numbers(records), map(_position, records), strict=True))
        assert found == acknowledged

    async def _cancel_some(self, log: Log) -> list[int]:
        tasks = [asyncio.create_task(log.append(envelope(number))) for number in range(40)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(each, asyncio.CancelledError) for each in results[::2])
        return [number for number in range(40) if number % 2]

    def test_cancelled_senders_do_not_break_the_others(self, log: Log) -> None:
        kept = asyncio.run(self._cancel_some(log))
        log.append_blocking(envelope(99))
        consumer, found = log.consumer("a"), set[int]()
        eventually(lambda: found.update(numbers(poll(consumer))) or {*kept, 99} <= found)

    def test_closing_finishes_what_was_accepted(self, open_log: OpenLog) -> None:
        log = open_log()

        async def append_and_close() -> list[object]:
            tasks = [asyncio.create_task(log.append(envelope(number))) for number in range(100)]
            await asyncio.sleep(0)
            await asyncio.to_thread(log.close)
            return list(await asyncio.gather(*tasks, return_exceptions=True))

        results = asyncio.run(append_and_close())
        assert not [each for each in results if isinstance(each, BaseException)]
        read_all(open_log().consumer("a"), 100)

    def test_after_closing_nothing_is_accepted_or_read(self, log: Log) -> None:
        consumer = log.consumer("a")
        log.close()
        with pytest.raises(LogUnavailable):
            log.append_blocking(envelope(1))
        with pytest.raises(LogUnavailable):
            asyncio.run(log.append(envelope(1)))
        with pytest.raises(LogUnavailable):
            poll(consumer)
        with pytest.raises(LogUnavailable):
            log.consumer("b")
        log.close()

    def test_closing_ends_a_waiting_poll(self, log: Log) -> None:
        consumer = log.consumer("a")
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(poll, consumer, timeout=60)
            log.close()
            with contextlib.suppress(LogUnavailable):
                assert waiting.result(90) == []


def _position(record: Record) -> Position:
    return record.position


def _lag(log: Log, group: str) -> Lag | None:
    return log.state().groups.get(group)


def _behind(log: Log, group: str) -> int | None:
    lag = _lag(log, group)
    return None if lag is None else lag.records


def _oldest_at(log: Log, group: str) -> int | None:
    lag = _lag(log, group)
    return None if lag is None else lag.oldest_at


def _poll_until_some(consumer: Consumer, *, max_bytes: int) -> list[Record]:
    deadline = time.monotonic() + 30
    while not (records := poll(consumer, max_bytes=max_bytes, timeout=0.5)):
        assert time.monotonic() < deadline, "no record came"
    return records


def _a_later_moment() -> int:
    """A moment strictly after everything so far: a log may count milliseconds."""
    start = time.time_ns() // 1_000_000
    while time.time_ns() // 1_000_000 <= start + 1:
        pass
    return time.time_ns() // 1000
