"""Readers of a group on Kafka: they come, go, stall and die, and nothing is lost."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
import weakref
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import pytest
from confluent_kafka import Consumer, ConsumerGroupState, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import ConsumerGroupDescription

from nilometer.log.kafka import KafkaLog, Membership
from nilometer.log.kafka.consumer import KafkaConsumer
from nilometer.log.port import LogUnavailable, Record
from nilometer.observability.metrics import REGISTRY
from tests.log.kafka_logs import open_kafka_log
from tests.log.logs import envelope, eventually, numbers, poll, read, read_all
from tests.services import KafkaService

ROOT = Path(__file__).parents[2]
PARTITIONS = 8


@pytest.fixture
def topic(kafka: KafkaService) -> str:
    return kafka.new_topic()


def opened(kafka: KafkaService, topic: str, membership: Membership) -> contextlib.closing[KafkaLog]:
    return contextlib.closing(
        open_kafka_log(kafka.bootstrap, topic, partitions=PARTITIONS, membership=membership)
    )


@pytest.fixture
def log(kafka: KafkaService, topic: str) -> Iterator[KafkaLog]:
    membership = Membership(session_timeout=6, handover=3, idle_after=0.1)
    with opened(kafka, topic, membership) as log:
        yield log


@pytest.fixture
def patient(kafka: KafkaService, topic: str) -> Iterator[KafkaLog]:
    """A log whose readers may finish what they have in hand, however slow the machine."""
    with opened(kafka, topic, Membership(session_timeout=20, handover=60, idle_after=0.1)) as log:
        yield log


class Worker:
    """Polls, takes its time, has its effect, commits; in a thread, until it is stopped."""

    def __init__(self, log: KafkaLog, *, seconds: float) -> None:
        self.consumer = log.consumer("workers")
        self.effects: list[int] = []
        self._seconds = seconds
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(90)
        self.consumer.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            records = poll(self.consumer, max_records=100, timeout=0.1)
            if records:
                threading.Event().wait(self._seconds)
                self.effects += numbers(records)
                self.consumer.commit(records)


class Load:
    """Appends numbers from a thread, until it is stopped."""

    def __init__(self, log: KafkaLog) -> None:
        self.acknowledged = 0
        self._log = log
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(90)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._log.append_blocking(envelope(self.acknowledged))
            self.acknowledged += 1
            self._stopping.wait(0.01)


def test_workers_that_come_and_go_under_load_lose_nothing_and_repeat_nothing(
    patient: KafkaLog,
) -> None:
    """Batches take longer than the group is left without a poll, and less than a handover."""
    load = Load(patient)
    workers = [Worker(patient, seconds=1)]
    eventually(lambda: len(workers[0].effects) > 50)
    workers += [Worker(patient, seconds=1) for _ in range(3)]
    eventually(lambda: all(worker.effects for worker in workers), within=60)
    for worker in workers[:2]:
        worker.stop()
    reached = len(workers[3].effects)
    eventually(lambda: len(workers[3].effects) > reached + 50)
    load.stop()

    def effects() -> list[int]:
        return [number for worker in workers for number in worker.effects]

    eventually(lambda: len(set(effects())) == load.acknowledged, within=90)
    for worker in workers[2:]:
        worker.stop()
    repeated = [number for number, count in Counter(effects()).items() if count > 1]
    assert repeated == []


def test_a_partition_waits_for_the_batch_in_hand_of_it_before_it_goes(
    kafka: KafkaService, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    membership = Membership(session_timeout=6, handover=60, idle_after=0.1)
    with contextlib.closing(
        open_kafka_log(kafka.bootstrap, topic, partitions=PARTITIONS, membership=membership)
    ) as log:
        for number in range(300):
            log.append_blocking(envelope(number))
        first = log.consumer("workers")
        hand = read(first, 300)
        asked, real = threading.Event(), first._progress.wait_finished

        def noted(*arguments: Any) -> bool:
            asked.set()
            return real(*arguments)

        monkeypatch.setattr(first._progress, "wait_finished", noted)
        newcomer = Worker(log, seconds=0)
        try:
            assert asked.wait(90)
            first.commit(hand)
            log.append_blocking(envelope(300))
            eventually(lambda: len(newcomer.consumer._progress.assigned) == PARTITIONS // 2)
            seen = Counter(numbers(hand))
            eventually(lambda: _catch_up(first, seen) and len(seen) + len(newcomer.effects) == 301)
        finally:
            newcomer.stop()
        assert set(newcomer.effects) <= {300}


def test_a_reader_that_stalls_stays_in_its_group_and_gives_partitions_up_to_a_newcomer(
    log: KafkaLog,
) -> None:
    for number in range(400):
        log.append_blocking(envelope(number))
    stalled = log.consumer("workers")
    hand = read(stalled, 300)  # and waits for its store from here on
    newcomer = log.consumer("workers")
    found: list[Record] = []
    eventually(lambda: bool(found.extend(poll(newcomer, timeout=0.2)) or found), within=15)
    eventually(lambda: len(newcomer._progress.assigned) == PARTITIONS // 2, within=30)
    assert len(stalled._progress.assigned) == PARTITIONS // 2

    kept = [each for each in hand if each.position.partition in stalled._progress.assigned]
    stalled.commit(hand)  # the store is back
    newcomer.commit(found)
    seen = Counter(numbers(kept)) + Counter(numbers(found))

    def everything_read() -> bool:
        # A poll that finds nothing may only have been too early: fetching starts anew.
        quiet = [_catch_up(consumer, seen) for consumer in (stalled, newcomer)]
        return all(quiet) and len(seen) == 400

    eventually(everything_read, within=60)
    # Once each, but for what the stalled reader had in hand of the partitions that it lost.
    assert set(seen.values()) == {1}


def test_a_partition_that_went_while_its_reader_was_idle_is_read_when_it_comes_back(
    log: KafkaLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.append_blocking(envelope(0))
    idle = log.consumer("workers")
    read_all(idle, 1)
    eventually(lambda: idle._client._paused)
    other = log.consumer("workers")
    eventually(lambda: len(other._progress.assigned) == PARTITIONS // 2, within=60)
    assert idle._client._paused
    went = set(other._progress.assigned)
    assert poll(idle, timeout=0.2) == []  # it goes on, without those that went, and idles no more
    monkeypatch.setattr(idle._client, "pause", lambda: None)
    closing = threading.Thread(target=other.close)
    closing.start()
    eventually(lambda: poll(idle) == [] and len(idle._progress.assigned) == PARTITIONS, within=60)
    closing.join(90)
    for number in range(1, 200):
        log.append_blocking(envelope(number))
    records = read_all(idle, 199)
    assert sorted(numbers(records)) == list(range(1, 200))
    assert went <= {each.position.partition for each in records}


def _catch_up(consumer: KafkaConsumer, seen: Counter[int]) -> bool:
    records = poll(consumer, timeout=0.5)
    consumer.commit(records)
    seen.update(numbers(records))
    return not records


def test_a_reader_that_polls_nothing_for_longer_than_is_allowed_is_not_put_out(
    kafka: KafkaService, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Membership.options

    def impatient(membership: Membership, *arguments: Any) -> dict[str, Any]:
        return real(membership, *arguments) | {"max.poll.interval.ms": 6000}

    monkeypatch.setattr(Membership, "options", impatient)
    membership = Membership(session_timeout=6, idle_after=0.2)
    with contextlib.closing(open_kafka_log(kafka.bootstrap, topic, membership=membership)) as log:
        log.append_blocking(envelope(0))
        log.append_blocking(envelope(1))
        consumer = log.consumer("a")
        records = read(consumer, 1)
        member = consumer._client._client.memberid()
        until = time.monotonic() + 8
        eventually(lambda: time.monotonic() > until)
        consumer.commit(records)
        assert numbers(read_all(consumer, 1)) == [1]
        assert consumer._client._client.memberid() == member


def test_a_worker_that_is_killed_between_effect_and_commit_repeats_that_batch_alone(
    kafka: KafkaService, topic: str, log: KafkaLog, tmp_path: Path
) -> None:
    for number in range(300):
        log.append_blocking(envelope(number))
    command = [sys.executable, "-m", "tests.log.kafka_worker", kafka.bootstrap, topic, "100"]
    lines: list[str] = []
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        reader = threading.Thread(target=lines.extend, args=(process.stdout,))
        reader.start()
        try:
            eventually(lambda: "effect\n" in lines or process.poll() is not None, within=60)
        finally:
            process.kill()
            reader.join()
    committed = _said(lines, "committed")
    uncommitted = _said(lines, "had")
    assert committed
    assert uncommitted
    rest = [number for number in range(300) if number not in committed]
    found = read_all(log.consumer("workers"), len(rest))
    assert sorted(numbers(found)) == rest
    assert set(uncommitted) <= set(rest)


def _said(lines: list[str], verb: str) -> set[int]:
    return {
        int(number) for line in lines if line.startswith(f"{verb} ") for number in line.split()[1:]
    }


def test_a_commit_after_the_partitions_went_to_another_reader_moves_nothing(
    log: KafkaLog,
) -> None:
    for number in range(40):
        log.append_blocking(envelope(number))
    first = log.consumer("workers")
    hand = read(first, 40)
    lost = [each for each in hand if each.position.partition >= PARTITIONS // 2]
    # As after a revocation: only the bookkeeping knows.
    first._progress.revoke({each.position.partition for each in lost})
    first.commit(lost)
    first.close()
    assert len(read_all(log.consumer("workers"), 40)) == 40


@pytest.mark.parametrize(
    "error",
    [
        KafkaError.REBALANCE_IN_PROGRESS,
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.UNKNOWN_MEMBER_ID,
    ],
)
def test_a_commit_that_a_rebalance_refuses_is_made_again(
    kafka: KafkaService, topic: str, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    with contextlib.closing(open_kafka_log(kafka.bootstrap, topic)) as log:
        log.append_blocking(envelope(1))
        consumer = log.consumer("a")
        records = read(consumer, 1)
        client, refusals = consumer._client, [KafkaError(error)]
        real = client.commit

        def refused_once(offsets: dict[int, int]) -> None:
            if refusals:
                client.commit_error = refusals.pop()
            else:
                real(offsets)

        monkeypatch.setattr(client, "commit", refused_once)
        consumer.commit(records)
        assert consumer._progress.to_commit() == {}
        consumer.close()
        log.append_blocking(envelope(2))
        assert numbers(read_all(log.consumer("a"), 1)) == [2]


def test_records_that_the_retention_deleted_unread_are_counted_and_told(
    kafka: KafkaService, topic: str, caplog: pytest.LogCaptureFixture
) -> None:
    with contextlib.closing(open_kafka_log(kafka.bootstrap, topic)) as log:
        for number in range(10):
            log.append_blocking(envelope(number))
        consumer = log.consumer("a")
        consumer.commit(read(consumer, 10))
        consumer.close()
        for number in range(10, 20):
            log.append_blocking(envelope(number))
        _delete_before(log, 0, 14)
        before = REGISTRY.get_sample_value("nilometer_log_lost_records_total") or 0
        assert numbers(read_all(log.consumer("a"), 6)) == list(range(14, 20))
        assert REGISTRY.get_sample_value("nilometer_log_lost_records_total") == before + 4
        assert f"4 records of the Kafka topic {topic}, partition 0, were deleted" in caplog.text


def _delete_before(log: KafkaLog, partition: int, offset: int) -> None:
    place = TopicPartition(log.facts.name, partition, offset)
    log._monitor._cluster._admin.delete_records([place])[place].result(90)


def test_a_message_that_is_none_of_ours_is_handed_out_without_headers(
    kafka: KafkaService, log: KafkaLog
) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    producer.produce(log.facts.name, b"what is this", headers=[("other", b"x")])
    producer.produce(log.facts.name, None)
    producer.flush(20)
    found = read_all(log.consumer("a"), 2)
    assert {(each.headers, each.payload) for each in found} == {(b"", b"what is this"), (b"", b"")}


class Watched(Consumer):
    """Tells of the answers to rebalances, and when the library closes."""

    all: ClassVar[list[weakref.ref[Watched]]] = []

    def __init__(self, options: dict[str, Any], **more: Any) -> None:
        super().__init__(options, **more)
        self.calls: list[str] = []
        self.all.append(weakref.ref(self))

    def incremental_assign(self, partitions: list[TopicPartition]) -> None:
        self.calls.append("assign")
        super().incremental_assign(partitions)

    def incremental_unassign(self, partitions: list[TopicPartition]) -> None:
        self.calls.append("unassign")
        super().incremental_unassign(partitions)

    def close(self) -> None:
        self.calls.append("close")
        super().close()


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref[Watched]]:
    """The clients of the test's groups, as long as they live."""
    monkeypatch.setattr("nilometer.log.kafka.membership.Consumer", Watched)
    monkeypatch.setattr(Watched, "all", [])
    return Watched.all


@pytest.mark.parametrize("instance_id", [None, "worker-1"])
@pytest.mark.parametrize("polls", [True, False])
def test_partitions_are_given_back_before_the_library_closes(
    kafka: KafkaService,
    topic: str,
    watched: list[weakref.ref[Watched]],
    instance_id: str | None,
    polls: bool,
) -> None:
    """A rebalance within its close may freeze the process: see `nilometer.log.kafka.membership`."""
    membership = Membership(session_timeout=6, idle_after=60, instance_id=instance_id)
    with contextlib.closing(
        open_kafka_log(kafka.bootstrap, topic, partitions=PARTITIONS, membership=membership)
    ) as log:
        for number in range(300):
            log.append_blocking(envelope(number))
        consumer = log.consumer("a")
        calls = _calls(watched[0])
        if polls:
            read(consumer, 200)
        else:  # the library joins by itself, and has an assignment that nobody was told of
            eventually(lambda: _members_with_partitions(log, f"{topic}.a") == 1)
        consumer.close()
        members = _members_with_partitions(log, f"{topic}.a")
        assert watched[0]() is None or instance_id is None  # its threads and connections end
    if instance_id is None:
        assert (calls, members) == (["assign", "unassign", "close"], 0)
    else:
        assert (calls, members) == (["assign"], 1)


def test_a_reader_that_closes_while_its_group_rebalances_gives_everything_back_first(
    kafka: KafkaService, topic: str, watched: list[weakref.ref[Watched]]
) -> None:
    """The library puts its unsubscribe off until the rebalance is over."""
    membership = Membership(session_timeout=45, idle_after=60)
    with contextlib.closing(
        open_kafka_log(kafka.bootstrap, topic, partitions=PARTITIONS, membership=membership)
    ) as log:
        leaver, other = log.consumer("a"), log.consumer("a")
        calls = _calls(watched[0])

        def shared() -> bool:
            for each in (leaver, other):
                poll(each, timeout=0.1)
            return all(len(each._progress.assigned) == PARTITIONS // 2 for each in (leaver, other))

        eventually(shared)
        calls.clear()
        third = log.consumer("a")
        # Two have then rejoined unasked, and have yet to be told what the third gets of theirs;
        # but for one that was still being told of what they share.
        with contextlib.suppress(AssertionError):
            eventually(lambda: _settled_members(log, f"{topic}.a") == 3, within=5)
        with ThreadPoolExecutor(1) as pool:
            closed = pool.submit(leaver.close)
            eventually(lambda: calls or closed.done())  # of the group's others none may go on yet
            eventually(
                lambda: [poll(each, timeout=0.1) for each in (other, third)] and closed.done()
            )
            closed.result()
    assert calls[-1] == "close"


def _calls(client: weakref.ref[Watched]) -> list[str]:
    found = client()
    assert found is not None
    return found.calls


def _settled_members(log: KafkaLog, group: str) -> int:
    found = _described(log, group)
    return len(found.members) if found.state == ConsumerGroupState.STABLE else 0


def _members_with_partitions(log: KafkaLog, group: str) -> int:
    return sum(bool(each.assignment.topic_partitions) for each in _described(log, group).members)


def _described(log: KafkaLog, group: str) -> ConsumerGroupDescription:
    admin = log._monitor._cluster._admin
    return admin.describe_consumer_groups([group])[group].result(20)


def test_a_reader_with_the_name_of_another_is_told_so(kafka: KafkaService, topic: str) -> None:
    membership = Membership(session_timeout=6, instance_id="worker-1")
    with contextlib.closing(open_kafka_log(kafka.bootstrap, topic, membership=membership)) as log:
        log.append_blocking(envelope(1))
        first = log.consumer("a")
        read(first, 1)
        second = log.consumer("a")
        read(second, 1)

        def fenced() -> bool:
            try:
                poll(first, timeout=0.2)
            except LogUnavailable as error:
                return "fenced" in error.detail.lower()
            return False

        eventually(fenced)
