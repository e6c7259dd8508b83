"""What Kafka's faults cost: an answer, never a record that was acknowledged."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer

from nilometer.errors import NilometerError
from nilometer.log.kafka import KafkaLog, Sending
from nilometer.log.port import Consumer, LogUnavailable, Record, RecordTooLarge
from tests.log.fatal_errors import fail_for_good
from tests.log.kafka_logs import open_kafka_log
from tests.log.logs import envelope, eventually, numbers, poll, read, read_all
from tests.private_servers import KafkaServer, private

DELIVERY = 3.0


@pytest.fixture(scope="module")
def broker() -> Iterator[KafkaServer]:
    with private(KafkaServer) as server:
        yield server


@pytest.fixture
def log(broker: KafkaServer) -> Iterator[KafkaLog]:
    """A log of the private broker, which every test leaves running."""
    sending = Sending(delivery_timeout=DELIVERY)
    with contextlib.closing(
        open_kafka_log(
            broker.address, f"t-{uuid4().hex}", partitions=2, sending=sending, answer_timeout=2
        )
    ) as log:
        yield log


async def send_until(log: KafkaLog, stop: asyncio.Event) -> tuple[set[int], set[int], float]:
    """Sixteen senders: which numbers were acknowledged, which refused, the longest answer."""
    numbers_left = iter(range(10_000_000))
    acknowledged, refused, slowest = set[int](), set[int](), 0.0

    async def sender() -> None:
        nonlocal slowest
        while not stop.is_set():
            number, started = next(numbers_left), time.monotonic()
            try:
                await log.append(envelope(number, size=200))
                acknowledged.add(number)
            except LogUnavailable:
                refused.add(number)
                await asyncio.sleep(0.02)
            slowest = max(slowest, time.monotonic() - started)

    await asyncio.gather(*(sender() for _ in range(16)))
    return acknowledged, refused, slowest


async def wait_until(condition: Callable[[], bool], within: float = 60) -> None:
    await asyncio.to_thread(eventually, condition, within=within)


def test_a_broker_that_is_killed_while_producing_and_comes_back_costs_refusals_alone(
    broker: KafkaServer, log: KafkaLog
) -> None:
    async def scenario() -> tuple[set[int], set[int], float]:
        stop = asyncio.Event()
        sending = asyncio.create_task(send_until(log, stop))
        await wait_until(lambda: log.state().depth > 500)
        await asyncio.to_thread(broker.kill)
        await wait_until(lambda: not log.state().ready)
        await asyncio.to_thread(broker.start)
        await wait_until(lambda: log.state().ready)
        depth = log.state().depth
        await wait_until(lambda: log.state().depth > depth + 500)
        stop.set()
        return await sending

    acknowledged, refused, slowest = asyncio.run(scenario())
    consumer, found = log.consumer("a"), list[int]()
    eventually(
        lambda: found.extend(numbers(poll(consumer, timeout=0.5))) or acknowledged <= set(found)
    )
    assert refused
    assert slowest < DELIVERY + 15
    # What was refused may be there: it was on its way when the broker died. Each record once.
    assert len(found) == len(set(found))
    assert set(found) <= acknowledged | refused


def test_a_broker_that_takes_records_and_never_acknowledges_is_given_up_in_time(
    broker: KafkaServer, log: KafkaLog
) -> None:
    log.append_blocking(envelope(0))
    broker.pause()
    try:
        started = time.monotonic()
        with pytest.raises(LogUnavailable) as refused:
            log.append_blocking(envelope(1))
        assert time.monotonic() - started < DELIVERY + 15
        assert refused.value.retry_after > 0
        eventually(lambda: not log.state().ready)
        assert min(_refusal(log) for _ in range(5)) < DELIVERY / 2  # known by now: at once
    finally:
        broker.resume()
    eventually(lambda: log.state().ready)
    eventually(lambda: _appended(log, 3))
    found = read_until(log, {0, 3})
    assert len(found) == len(set(found))
    assert set(found) <= {0, 1, 3}  # the one that nobody acknowledged may be there, the refused not


def _appended(log: KafkaLog, number: int) -> bool:
    try:
        log.append_blocking(envelope(number))
    except LogUnavailable:
        return False
    return True


def read_until(log: KafkaLog, wanted: set[int]) -> list[int]:
    found: list[int] = []
    consumer = log.consumer("a")
    eventually(lambda: found.extend(numbers(poll(consumer, timeout=0.5))) or wanted <= set(found))
    found += numbers(poll(consumer, timeout=0.5))
    return found


def test_a_commit_to_a_broker_that_does_not_answer_is_refused_in_time_and_made_later(
    broker: KafkaServer, log: KafkaLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nilometer.log.kafka.consumer._COMMIT_SECONDS", 2.0)
    for number in range(4):
        log.append_blocking(envelope(number))
    consumer = log.consumer("a")
    records = read(consumer, 4)
    broker.pause()
    try:
        started = time.monotonic()
        with pytest.raises(LogUnavailable):
            consumer.commit(records)
        assert time.monotonic() - started < 12
    finally:
        broker.resume()
    eventually(lambda: _committed(consumer, records), within=40)
    consumer.close()
    eventually(lambda: log.state().ready, within=40)  # what it says is a moment old
    log.append_blocking(envelope(4))
    assert numbers(read_all(log.consumer("a"), 1)) == [4]


def _refusal(log: KafkaLog) -> float:
    """Seconds until an append is refused."""
    started = time.monotonic()
    with pytest.raises(LogUnavailable):
        log.append_blocking(envelope(2))
    return time.monotonic() - started


def _committed(consumer: Consumer, records: list[Record]) -> bool:
    try:
        consumer.commit(records)
    except LogUnavailable:
        return False
    return True


def test_closing_while_the_broker_is_away_ends_and_tells_every_sender(
    broker: KafkaServer, log: KafkaLog
) -> None:
    log.append_blocking(envelope(0))
    consumer = log.consumer("a")
    read(consumer, 1)
    broker.pause()
    try:

        async def scenario() -> list[object]:
            tasks = [asyncio.create_task(log.append(envelope(number))) for number in range(1, 20)]
            await asyncio.sleep(0)
            await asyncio.to_thread(log.close)
            return list(await asyncio.gather(*tasks, return_exceptions=True))

        started = time.monotonic()
        results = asyncio.run(scenario())
        assert time.monotonic() - started < 60
        assert all(isinstance(each, LogUnavailable) for each in results)
    finally:
        broker.resume()


def test_a_topic_that_is_deleted_is_not_ready_and_does_not_come_back_by_itself(
    broker: KafkaServer,
) -> None:
    with contextlib.closing(
        open_kafka_log(broker.address, f"t-{uuid4().hex}", partitions=2, answer_timeout=30)
    ) as log:
        log.append_blocking(envelope(0))
        log._monitor._cluster._admin.delete_topics([log.facts.name])[log.facts.name].result(90)
        eventually(lambda: "does not exist" in log.state().reason)
        assert not log.state().ready
        with pytest.raises(LogUnavailable):
            log.append_blocking(envelope(1))
        assert log._monitor._cluster.partitions(log.facts.name) is None


def test_a_record_that_the_topic_does_not_take_is_refused_with_its_size_and_the_others_pass(
    broker: KafkaServer,
) -> None:
    plan = {"max_message_bytes": 100_000}
    name, sending = f"t-{uuid4().hex}", Sending(compression="none")
    with contextlib.closing(
        open_kafka_log(broker.address, name, plan=plan, sending=sending)
    ) as log:
        largest = log.facts.largest_record - len(envelope(1).headers())
        with pytest.raises(RecordTooLarge, match=r"100,0\d\d bytes .* takes 97,952") as refused:
            log.append_blocking(envelope(0, size=100_000 - len(envelope(1).headers()) + 50))
        assert isinstance(refused.value, NilometerError)
        assert not isinstance(refused.value, LogUnavailable)
        # The largest that is said to fit does, as it is.
        log.append_blocking(envelope(1, size=largest))
        log.append_blocking(envelope(2))
        assert numbers(read_all(log.consumer("a"), 2)) == [1, 2]


def test_too_much_on_its_way_is_refused_at_once(broker: KafkaServer) -> None:
    sending = Sending(delivery_timeout=DELIVERY, max_queued_bytes=10_000)
    with contextlib.closing(
        open_kafka_log(broker.address, f"t-{uuid4().hex}", sending=sending)
    ) as log:

        async def scenario() -> list[object]:
            tasks = [
                asyncio.create_task(log.append(envelope(number, size=4000))) for number in range(20)
            ]
            await asyncio.sleep(0)
            return list(await asyncio.gather(*tasks, return_exceptions=True))

        results = asyncio.run(scenario())
        refused = [each for each in results if isinstance(each, LogUnavailable)]
        assert 2 <= len(refused) < 20
        assert {each.retry_after for each in refused} == {1}
        log.append_blocking(envelope(99, size=50_000))  # alone, even a larger one fits


def test_a_client_that_has_failed_for_good_is_replaced_and_what_it_had_is_refused(
    broker: KafkaServer, log: KafkaLog
) -> None:
    log.append_blocking(envelope(0))
    sender, broken = log._sender, log._sender._client
    broker.pause()
    try:
        under_way = log.append_soon(envelope(1))
        fail_for_good(broken)
        with pytest.raises(LogUnavailable):
            under_way.result(90)
        eventually(lambda: sender._client is not broken)
    finally:
        broker.resume()
    eventually(lambda: log.state().ready)
    log.append_blocking(envelope(2))
    found = read_until(log, {0, 2})
    assert set(found) <= {0, 1, 2}


def test_a_client_that_cannot_be_replaced_at_once_is_later(
    log: KafkaLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender, broken, connect = log._sender, log._sender._client, log._sender._connect
    missing = iter([KafkaException(KafkaError(KafkaError._INVALID_ARG, "no such file"))])

    def connect_later() -> Producer:
        for error in missing:
            raise error
        return connect()

    monkeypatch.setattr(sender, "_connect", connect_later)
    monkeypatch.setattr("nilometer.log.kafka.producer._CONNECT_EVERY", 0.2)
    fail_for_good(broken)
    eventually(lambda: sender._client is not broken)
    log.append_blocking(envelope(0))
    assert numbers(read_all(log.consumer("a"), 1)) == [0]
