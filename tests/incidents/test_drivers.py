"""The topic drives the stages, and the database decides: whatever happens to its messages."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing

import orjson
import pytest

from nilometer.database.engine import Database
from nilometer.database.fence import EVERY_ROW
from nilometer.domain import clock
from nilometer.incidents.drivers import Driver, consumed_by
from nilometer.incidents.events import REGISTRY
from nilometer.incidents.relay import record_of
from nilometer.log.kafka import KafkaLog
from nilometer.log.port import Consumer, Log, LogUnavailable, Position, Record
from nilometer.workflows.enqueueing import enqueue
from nilometer.workflows.outbox import Notice
from nilometer.workflows.runner import Running
from nilometer.workflows.stage_runner import StageRunner
from nilometer.workflows.task import NewTask
from tests.database.migrated import migrated
from tests.log.kafka_logs import open_kafka_log
from tests.log.logs import open_log
from tests.running import wait_until
from tests.workflows.queues import Queue, Recording

HOUR = 3600.0


def message(kind: str, number: int = 1) -> Notice:
    record = orjson.dumps({"type": kind})
    return Notice(1, f"lane-{number:05}", 1, f"event-{number}", clock.now(), record)


def record(payload: bytes) -> Record:
    return Record(Position(0, 0), b"", payload)


def test_a_stage_is_driven_by_the_events_that_it_consumes_and_by_what_nobody_can_read():
    concerns = consumed_by("triage")
    assert "triage" in REGISTRY["ExceptionNormalized"].consumers
    assert concerns(record(orjson.dumps({"type": "ExceptionNormalized"})))
    assert not concerns(record(orjson.dumps({"type": "ExceptionIngested"})))
    for unknown in (b"", b"[]", b"{}", orjson.dumps({"type": "OfANewerRelease"})):
        assert concerns(record(unknown))


@pytest.fixture
def database(tmp_path) -> Iterator[Database]:
    with closing(migrated(tmp_path / "nilometer.db")) as database:
        yield database


@pytest.fixture(params=["sqlite", "kafka"])
def log(request, tmp_path) -> Iterator[Log]:
    if request.param == "sqlite":
        opened: Log = open_log(tmp_path / "log")
    else:
        kafka = request.getfixturevalue("kafka")
        opened = open_kafka_log(kafka.bootstrap, kafka.new_topic(), partitions=4)
    with closing(opened):
        yield opened


def intake(database: Database, stage: Recording) -> StageRunner:
    """A runner that looks by itself so seldom that only a message can be why it looked."""
    return StageRunner(database, stage, Running(interval=HOUR))


def caught_up(log: Log) -> bool:
    """Whether the stage's group is there, and has committed everything."""
    group = log.state().groups.get("intake")
    return group is not None and group.records == 0


def test_messages_that_are_repeated_or_out_of_order_change_nothing_at_any_number_of_workers(
    database, log
):
    """200 tasks, with each message twice, backwards, while workers come until there are four (one
    alone reads an embedded log)."""
    queue = Queue(database)
    stages = [Recording(queue="intake") for _ in range(4 if isinstance(log, KafkaLog) else 1)]
    with ExitStack() as running:
        for at, stage in enumerate(stages):
            runner = intake(database, stage)
            driver = Driver(log, runner)
            running.callback(runner.stop)
            running.callback(driver.stop)
            runner.start()
            driver.start()
            mine = range(at, 200, len(stages))
            tasks = [NewTask(1, "intake", f"lane-{each:05}", 1, "kind") for each in mine]
            with database.concurrent(EVERY_ROW) as session:
                enqueue(session, tasks, clock.now())
            for number in [*reversed(mine), *mine]:
                log.append_soon(record_of(message("ExceptionIngested", number)))
        wait_until(lambda: queue.count() == 0, seconds=90)
        # Each that comes has the others give partitions up, twice, and what they cannot commit
        # meanwhile they commit after that.
        wait_until(lambda: caught_up(log), seconds=90)
    done = [task for stage in stages for batch in stage.batches for task in batch]
    assert len(done) == len(set(done)) == 200


class Refusing:
    """A log whose readers can commit nothing for a while."""

    def __init__(self, log: Log, refusals: int) -> None:
        self.log, self.left = log, refusals

    def consumer(self, group: str) -> Consumer:
        consumer = self.log.consumer(group)
        commit = consumer.commit

        def refuse(records: list[Record]) -> None:
            if records and self.left:
                self.left -= 1
                raise LogUnavailable("the group's partitions are being shared out")
            commit(records)

        consumer.commit = refuse  # type: ignore[method-assign]
        return consumer


def test_messages_that_could_not_be_committed_are_later_though_no_other_comes(
    database, tmp_path, monkeypatch
):
    monkeypatch.setattr("nilometer.incidents.drivers._PAUSE_SECONDS", 0.01)
    stage = Recording(queue="intake")
    runner = intake(database, stage)
    with closing(open_log(tmp_path / "log")) as log:
        refusing = Refusing(log, refusals=3)
        driver = Driver(refusing, runner)  # type: ignore[arg-type]
        runner.start()
        driver.start()
        try:
            log.append_blocking(record_of(message("ExceptionIngested")))
            wait_until(lambda: caught_up(log))
            assert refusing.left == 0
        finally:
            driver.stop()
            runner.stop()


def test_a_driver_that_waits_for_the_log_ends_with_it(database, tmp_path, monkeypatch):
    """As one does whose commit no broker answers."""
    monkeypatch.setattr("nilometer.incidents.drivers._STOP_SECONDS", 0.01)
    runner = intake(database, Recording(queue="intake"))
    waiting, told = threading.Event(), list[bool]()
    with closing(open_log(tmp_path / "log")) as log:
        consumer, closed = log.consumer("intake"), threading.Event()
        close = consumer.close

        def commit(_: object) -> None:
            waiting.set()
            told.append(closed.wait(20))
            raise LogUnavailable("this consumer is closed")

        def closing_it() -> None:
            closed.set()
            close()

        monkeypatch.setattr(consumer, "commit", commit)
        monkeypatch.setattr(consumer, "close", closing_it)
        monkeypatch.setattr(log, "consumer", lambda _: consumer)
        driver = Driver(log, runner)
        runner.start()
        driver.start()
        try:
            assert waiting.wait(60)
        finally:
            driver.stop()
            runner.stop()
    assert told == [True]


def test_a_message_that_came_before_its_task_or_never_costs_a_look(database, tmp_path):
    queue = Queue(database)
    stage = Recording(queue="intake")
    runner = StageRunner(database, stage, Running(interval=0.05))
    with closing(open_log(tmp_path / "log")) as log:
        driver = Driver(log, runner)
        runner.start()
        driver.start()
        try:
            log.append_blocking(record_of(message("ExceptionIngested")))
            wait_until(lambda: caught_up(log))
            queue.add(queue="intake")  # and no message of it
            wait_until(lambda: queue.count() == 0)
        finally:
            driver.stop()
            runner.stop()


def test_a_message_counts_as_behind_until_its_stage_has_looked(database, tmp_path):
    released = threading.Event()
    queue = Queue(database)
    stage = Recording(lambda _, __: released.wait(30) and None, queue="intake")
    runner = intake(database, stage)
    with closing(open_log(tmp_path / "log")) as log:
        driver = Driver(log, runner)
        runner.start()
        driver.start()
        try:
            queue.add(queue="intake")
            log.append_blocking(record_of(message("ExceptionIngested")))
            wait_until(lambda: stage.batches)
            assert log.state().groups["intake"].records == 1
            released.set()
            wait_until(lambda: caught_up(log))
        finally:
            released.set()
            driver.stop()
            runner.stop()
