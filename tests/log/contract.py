"""What every log promises. Each implementation runs these tests on itself."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from nilometer.log.port import Log, LogUnavailable
from tests.log.logs import drain, envelope, numbers, poll

OpenLog = Callable[[], Log]


class LogContract:
    """Subclasses give the fixture `open_log`: each call opens the same log anew, after the one
    before was closed."""

    @pytest.fixture
    def log(self, open_log: OpenLog) -> Log:
        return open_log()

    def test_records_are_read_in_the_order_of_their_positions(self, log: Log) -> None:
        positions = [log.append_blocking(envelope(number)) for number in range(20)]
        records = drain(log.consumer("a"))
        assert positions == sorted(set(positions))
        assert [each.position for each in records] == positions
        assert numbers(records) == list(range(20))

    def test_a_record_comes_back_byte_for_byte(self, log: Log) -> None:
        sent = envelope(7, size=3_000_000)
        log.append_blocking(sent)
        (record,) = poll(log.consumer("a"))
        assert (record.headers, record.payload) == (sent.headers(), sent.payload)

    def test_an_uncommitted_record_is_handed_out_again_after_a_restart(
        self, open_log: OpenLog
    ) -> None:
        log = open_log()
        for number in range(5):
            log.append_blocking(envelope(number))
        consumer = log.consumer("a")
        records = poll(consumer)
        consumer.commit(records[:2])
        assert poll(consumer) == []
        log.close()
        assert numbers(drain(open_log().consumer("a"))) == [2, 3, 4]

    def test_a_new_consumer_of_the_group_begins_at_the_last_commit(self, log: Log) -> None:
        for number in range(5):
            log.append_blocking(envelope(number))
        first = log.consumer("a")
        first.commit(poll(first, max_records=3))
        poll(first)
        first.close()
        assert numbers(drain(log.consumer("a"))) == [3, 4]

    def test_committing_an_older_record_never_moves_a_group_back(self, log: Log) -> None:
        for number in range(4):
            log.append_blocking(envelope(number))
        consumer = log.consumer("a")
        records = poll(consumer)
        consumer.commit(records)
        consumer.commit(records[:1])
        consumer.commit([])
        consumer.close()
        assert drain(log.consumer("a")) == []

    def test_groups_are_independent(self, log: Log) -> None:
        for number in range(3):
            log.append_blocking(envelope(number))
        drain(log.consumer("a"))
        assert numbers(drain(log.consumer("b"))) == [0, 1, 2]
        lags = log.state().groups
        assert (lags["a"].records, lags["b"].records) == (0, 0)

    def test_a_group_that_comes_late_reads_from_the_oldest_record(self, log: Log) -> None:
        log.append_blocking(envelope(1))
        drain(log.consumer("a"))
        log.append_blocking(envelope(2))
        assert numbers(drain(log.consumer("late"))) == [1, 2]

    def test_rewind_hands_out_again_what_was_appended_since(self, log: Log) -> None:
        log.append_blocking(envelope(1))
        since = _a_later_micro()
        log.append_blocking(envelope(2))
        log.append_blocking(envelope(3))
        consumer = log.consumer("a")
        drain(consumer)
        consumer.rewind(since)
        assert numbers(poll(consumer)) == [2, 3]

    def test_rewind_survives_a_restart(self, open_log: OpenLog) -> None:
        log = open_log()
        log.append_blocking(envelope(1))
        consumer = log.consumer("a")
        drain(consumer)
        consumer.rewind(0)
        log.close()
        assert numbers(drain(open_log().consumer("a"))) == [1]

    def test_rewind_never_moves_forward(self, log: Log) -> None:
        log.append_blocking(envelope(1))
        log.append_blocking(envelope(2))
        consumer = log.consumer("a")
        consumer.rewind(_a_later_micro())
        assert numbers(poll(consumer)) == [1, 2]

    def test_a_poll_is_bounded_by_records(self, log: Log) -> None:
        for number in range(5):
            log.append_blocking(envelope(number))
        consumer = log.consumer("a")
        assert numbers(poll(consumer, max_records=2)) == [0, 1]
        assert numbers(poll(consumer, max_records=2)) == [2, 3]

    def test_a_poll_is_bounded_by_bytes_but_for_one_larger_record(self, log: Log) -> None:
        for number in range(3):
            log.append_blocking(envelope(number, size=1000))
        consumer = log.consumer("a")
        assert numbers(poll(consumer, max_bytes=10)) == [0]
        two = len(envelope(1).headers()) * 2 + 2000
        assert numbers(poll(consumer, max_bytes=two)) == [1, 2]

    def test_a_waiting_poll_returns_when_a_record_comes(self, log: Log) -> None:
        consumer = log.consumer("a")
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(poll, consumer, timeout=30)
            log.append_blocking(envelope(1))
            assert numbers(waiting.result(10)) == [1]

    def test_a_poll_with_nothing_to_read_ends_after_its_timeout(self, log: Log) -> None:
        started = time.monotonic()
        assert poll(log.consumer("a"), timeout=0.05) == []
        assert 0.04 <= time.monotonic() - started < 5

    def test_lag_counts_what_a_group_has_not_committed(self, log: Log) -> None:
        consumer = log.consumer("a")
        assert log.state().groups["a"].oldest_at is None
        before = time.time_ns() // 1000
        for number in range(3):
            log.append_blocking(envelope(number))
        consumer.commit(poll(consumer, max_records=1))
        lag = log.state().groups["a"]
        assert lag.records == 2
        assert lag.oldest_at is not None
        assert before <= lag.oldest_at <= time.time_ns() // 1000

    def test_the_state_tells_depth_size_and_readiness(self, log: Log) -> None:
        assert log.state().depth == 0
        log.append_blocking(envelope(1, size=100_000))
        state = log.state()
        assert (state.ready, state.reason, state.depth) == (True, "", 1)
        assert state.size >= 100_000

    def test_thousands_of_appends_from_several_loops_and_threads_are_each_read_once(
        self, log: Log
    ) -> None:
        acknowledged: dict[int, int] = {}

        async def one(number: int) -> None:
            position = await log.append(envelope(number))
            acknowledged[number] = position.offset

        async def many(first: int) -> None:
            await asyncio.gather(*(one(first + number) for number in range(1000)))

        def blocking(first: int) -> None:
            for number in range(first, first + 50):
                acknowledged[number] = log.append_blocking(envelope(number)).offset

        threads = [
            *(threading.Thread(target=asyncio.run, args=(many(n * 1000),)) for n in range(3)),
            *(threading.Thread(target=blocking, args=(10_000 + n * 50,)) for n in range(4)),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        records = drain(log.consumer("a"))
        assert len(acknowledged) == 3200
        assert {
            number: each.position.offset
            for number, each in zip(numbers(records), records, strict=True)
        } == acknowledged

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
        assert set(kept) <= set(numbers(drain(log.consumer("a"))))
        log.append_blocking(envelope(99))

    def test_closing_finishes_what_was_accepted(self, open_log: OpenLog) -> None:
        log = open_log()

        async def append_and_close() -> list[object]:
            tasks = [asyncio.create_task(log.append(envelope(number))) for number in range(100)]
            await asyncio.sleep(0)
            await asyncio.to_thread(log.close)
            return list(await asyncio.gather(*tasks, return_exceptions=True))

        results = asyncio.run(append_and_close())
        assert not [each for each in results if isinstance(each, BaseException)]
        assert len(drain(open_log().consumer("a"))) == 100

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
                assert waiting.result(10) == []


def _a_later_micro() -> int:
    """A moment strictly after everything so far, by the microsecond clock."""
    start = time.time_ns() // 1000
    while time.time_ns() // 1000 <= start + 1:
        pass
    return time.time_ns() // 1000
