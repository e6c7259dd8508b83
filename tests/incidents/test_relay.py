"""Every event of an incident reaches the log, at least once and in its order, whoever dies."""

from __future__ import annotations

import random
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, field

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nilometer import failpoints
from nilometer.database.fence import EVERY_ROW
from nilometer.domain import clock
from nilometer.incidents import relay
from nilometer.incidents.relay import Relay, waves
from nilometer.log.envelope import Envelope, decode
from nilometer.log.port import LogUnavailable, Position, RecordTooLarge
from nilometer.workflows import outbox
from nilometer.workflows.outbox import Notice
from tests.database.both import KINDS, opened
from tests.database.migrated import migrated
from tests.log.logs import drain, open_log
from tests.running import wait_until


def notice(lane: str, sequence: int, project: int = 1) -> Notice:
    record = orjson.dumps({"exceptionId": lane, "sequence": sequence})
    return Notice(project, lane, sequence, f"{lane}-{sequence}", clock.now(), record)


def publish(database, *notices: Notice) -> None:
    with database.concurrent(EVERY_ROW) as session:
        outbox.publish(session, notices)


def waiting(database) -> int:
    with database.read(EVERY_ROW) as session:
        return outbox.waiting(session)[0]


def relay_to(database, log, **more) -> Relay:
    return Relay(database, log, alone=lambda: database.alone(relay.NAME), interval=0.02, **more)


@pytest.fixture(params=KINDS)
def database(request, tmp_path):
    with opened(request, tmp_path) as database:
        yield database


@pytest.fixture
def log(tmp_path):
    with closing(open_log(tmp_path / "log-exceptions")) as log:
        yield log


@pytest.fixture(autouse=True)
def no_failpoints():
    yield
    failpoints.configure("")


def read(log, group="readers"):
    """Lane and sequence of every record, in the log's order."""
    records = [decode(each.headers, each.payload) for each in drain(log.consumer(group))]
    payloads = [orjson.loads(each.payload) for each in records]
    return [(each["exceptionId"], each["sequence"]) for each in payloads]


def test_what_a_transaction_published_reaches_the_log_in_order(database, log):
    publish(database, *(notice(lane, at) for lane in "ab" for at in range(1, 6)))
    assert relay_to(database, log).look() is False
    found = read(log)
    for lane in "ab":
        assert [at for name, at in found if name == lane] == [1, 2, 3, 4, 5]
    assert waiting(database) == 0


def test_a_record_says_whose_it_is_and_what_it_belongs_with():
    sent = relay.record_of(notice("incident", 3, project=7))
    assert (sent.project_id, sent.uuid, sent.sequence) == (7, "incident-3", "7:incident")


def test_what_is_undone_is_not_told(database, log):
    with database.concurrent(EVERY_ROW) as session:
        outbox.publish(session, [notice("a", 1)])
        session.rollback()
    relay_to(database, log).look()
    assert read(log) == []


def test_a_death_between_the_log_and_the_outbox_repeats_and_never_loses(database, log):
    publish(database, *(notice("a", at) for at in (1, 2, 3)))
    failpoints.configure("outbox_appended=error")
    with pytest.raises(failpoints.Fault):
        relay_to(database, log).look()
    failpoints.configure("")
    publish(database, notice("a", 4))
    relay_to(database, log).look()
    assert [at for _, at in read(log)] == [1, 2, 3, 1, 2, 3, 4]
    assert waiting(database) == 0


def test_of_all_processes_one_tells(database, log):
    publish(database, notice("a", 1))
    with database.alone(relay.NAME):
        moved = relay_to(database, log).look()
    assert moved is False
    if database.path is None:
        assert waiting(database) == 1


def test_it_tells_by_itself_until_it_is_stopped(database, log):
    teller = relay_to(database, log, batch=10)
    teller.start()
    try:
        for at in range(1, 51):
            publish(database, notice(f"lane-{at % 5}", at))
        wait_until(lambda: waiting(database) == 0)
    finally:
        teller.stop()
    found = read(log)
    assert sorted(at for _, at in found) == list(range(1, 51))
    for lane in {name for name, _ in found}:
        mine = [at for name, at in found if name == lane]
        assert mine == sorted(mine)


@dataclass
class Failing:
    """A log that refuses some records, and reads those that it took in the order of taking them."""

    chance: random.Random
    share: float
    taken: list[Envelope] = field(default_factory=list)

    def append_soon(self, envelope: Envelope) -> Future[Position]:
        kind = self.chance.random()
        if kind < self.share / 3:
            raise LogUnavailable("no")
        future: Future[Position] = Future()
        if kind < self.share:
            future.set_exception(LogUnavailable("no"))
            if kind < self.share / 2:
                self.taken.append(envelope)  # kept, and not acknowledged
        else:
            self.taken.append(envelope)
            future.set_result(Position(0, len(self.taken)))
        return future


@given(seed=st.integers(0, 2**32), lanes=st.lists(st.integers(0, 4), min_size=1, max_size=40))
def test_whatever_the_log_refuses_each_incident_is_read_in_order(seed, lanes, tmp_path_factory):
    path = tmp_path_factory.mktemp("relay") / "nilometer.db"
    log = Failing(random.Random(seed), share=0.4)
    with closing(migrated(path)) as database:
        for number, lane in enumerate(lanes, 1):
            publish(database, notice(f"lane-{lane}", number))
        teller = relay_to(database, log, batch=7)
        for _ in range(1000):
            try:
                if not teller.look() and not waiting(database):
                    break
            except LogUnavailable:
                continue
        assert waiting(database) == 0
    seen: dict[str, int] = {}
    for each in log.taken:
        name, sequence = each.sequence or "", int(each.uuid.rpartition("-")[2])
        expected = [at for at, lane in enumerate(lanes, 1) if f"1:lane-{lane}" == name]
        if sequence > seen.get(name, 0):  # for the first time
            assert sequence == next(at for at in expected if at > seen.get(name, 0))
            seen[name] = sequence
    assert seen == {f"1:lane-{lane}": number for number, lane in enumerate(lanes, 1)}


@pytest.mark.parametrize("when", ["at_once", "by_the_broker"])
def test_an_event_that_the_log_never_takes_keeps_no_other_waiting(database, when):
    class Small(Failing):
        def append_soon(self, envelope: Envelope) -> Future[Position]:
            if envelope.uuid != "a-1":
                return super().append_soon(envelope)
            if when == "at_once":
                raise RecordTooLarge("too large")
            future: Future[Position] = Future()
            future.set_exception(RecordTooLarge("too large"))
            return future

    log = Small(random.Random(1), share=0)
    publish(database, notice("a", 1), notice("a", 2))
    relay_to(database, log).look()
    assert [each.uuid for each in log.taken] == ["a-2"]
    assert waiting(database) == 0


def test_a_wave_has_one_event_of_each_incident():
    numbered = list(enumerate([notice("a", 1), notice("b", 1), notice("a", 2), notice("a", 3)]))
    assert [[each[0] for each in wave] for wave in waves(numbered)] == [[0, 1], [2], [3]]
