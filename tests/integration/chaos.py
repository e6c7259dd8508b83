"""A deployment whose workers are killed while many exceptions of many tenants are handled, and what
is then to be found."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import httpx
import orjson
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
from sqlalchemy import text

from nilometer.database.engine import Database
from nilometer.database.fence import EVERY_ROW
from tests.integration.orders import Tenant, order, tenant
from tests.log.logs import open_log
from tests.running import NO_TLS, Server, wait_until
from tests.tools.counting import FOR_GOOD, Counting

TENANTS = 20
LONGEST = 120 + int(os.environ.get("NILOMETER_CHAOS_EXCEPTIONS", "0")) // 20
_LONGEST_PAUSE = 8
_BATCH = 25
_POSTERS = 4
_FATES = {0: "refused", 20: "down", 40: "later", 60: "later", 80: "lost"}
"""Of every hundred, five are not done at once: two of them never."""


@dataclass
class Fleet:
    """What runs: where exceptions are posted, and who works on them (the same, where there is one
    process)."""

    door: Server
    workers: list[Server]
    database: Database
    receiver: Counting
    role: str = "worker"
    pauses: bool = False
    """Whether workers are also stopped for longer than their leases, and then go on. What such a
    one was about to send it then sends: only a receiver that knows keys does it once."""

    def pause(self, worker: Server) -> None:
        """Stop it until others have all that it had in hand, but for what its transaction under
        way has locked; then let it go on."""
        worker.process.send_signal(signal.SIGSTOP)
        held, until = self._leases(), time.monotonic() + _LONGEST_PAUSE
        wait_until(lambda: not held & self._leases() or time.monotonic() > until)
        worker.process.send_signal(signal.SIGCONT)

    def _leases(self) -> set[str]:
        with self.database.read(EVERY_ROW) as session:
            query = text("SELECT DISTINCT lease FROM tasks WHERE lease IS NOT NULL")
            return set(session.scalars(query))

    def kill(self, worker: Server) -> None:
        """End it as a power cut does, and start it again."""
        worker.kill()
        worker.start().wait_ready(self.role, seconds=120)

    def scalar(self, query: str) -> int:
        """A number from the database."""
        with self.database.read(EVERY_ROW) as session:
            return session.scalar(text(query)) or 0

    def waiting(self) -> int:
        """How many tasks are neither done nor dead."""
        return self.scalar("SELECT count(*) FROM tasks WHERE due_at IS NOT NULL")

    def left(self) -> list[tuple[Any, ...]]:
        """The tasks that are neither done nor dead, as far as a person wants to see them."""
        query = (
            "SELECT lane, sequence, queue, state, attempts, losses, due_at, lease, error_code "
            "FROM tasks WHERE due_at IS NOT NULL ORDER BY due_at LIMIT 10"
        )
        with self.database.read(EVERY_ROW) as session:
            return [tuple(row) for row in session.execute(text(query))]

    def told(self) -> bool:
        """Whether the log has every event."""
        return not self.scalar("SELECT count(*) FROM outbox")


def fate(number: int) -> str:
    """What becomes of the tool of an exception: every tenant has all kinds."""
    return _FATES.get((number + _BATCH * (number // (_BATCH * TENANTS))) % 100, "ok")


def steps(number: int) -> int:
    """How many steps its playbook takes, unless the first fails for good."""
    return 3 if number % 10 == 0 else 1


@dataclass
class Load:
    """Raises so many exceptions of twenty tenants, in requests of 25 that are repeated under their
    key until they are answered; the second half once it may go on. `numbers` are the exceptions' by
    their ids."""

    fleet: Fleet
    exceptions: int
    numbers: dict[str, int] = field(default_factory=dict[str, int])
    repeated: int = 0
    may_go_on: threading.Event = field(default_factory=threading.Event)
    _stopping: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        door, receiver = self.fleet.door.url, self.fleet.receiver
        self.tenants = [
            tenant(door, receiver, f"tenant {n}", steps=3, keyed=self.fleet.pauses)
            for n in range(TENANTS)
        ]
        firsts = iter(range(0, self.exceptions, _BATCH))
        lock = threading.Lock()

        def post() -> None:
            while not self._stopping.is_set():
                with lock:
                    first = next(firsts, None)
                if first is None:
                    return
                if first >= self.exceptions // 2:
                    self.may_go_on.wait()
                ids = self._raised(first)
                with lock:
                    self.numbers.update(zip(ids, range(first, first + _BATCH), strict=False))

        self._threads = [threading.Thread(target=post) for _ in range(_POSTERS)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self.may_go_on.set()
        for thread in self._threads:
            thread.join()

    @property
    def over(self) -> bool:
        """Whether all are raised."""
        return not any(thread.is_alive() for thread in self._threads)

    def _raised(self, first: int) -> Sequence[str]:
        of: Tenant = self.tenants[first // _BATCH % TENANTS]
        last = min(first + _BATCH, self.exceptions)
        body = {"exceptions": [order(n, self._fate(n), steps(n)) for n in range(first, last)]}
        headers = {"Authorization": f"Bearer {of.key}", "Idempotency-Key": f"batch-{first}"}
        while not self._stopping.is_set():
            try:
                url = f"{self.fleet.door.url}/exceptions"
                answer = httpx.post(url, json=body, headers=headers, timeout=60, verify=NO_TLS)
            except httpx.HTTPError:
                self.repeated += 1
            else:
                if answer.status_code == 202:
                    assert answer.json()["status"] == "accepted", answer.text
                    return [each["exceptionId"] for each in answer.json()["results"]]
                assert answer.status_code in (429, 503), answer.text
            self._stopping.wait(0.2)
        return []

    def _fate(self, number: int) -> str:
        """Who knows keys and is down cannot say what became of an attempt whose worker died, and is
        asked for an hour; so there all that fails for good refuses."""
        found = fate(number)
        return "refused" if self.fleet.pauses and found == "down" else found


def kill_at_random(fleet: Fleet, load: Load, kills: int, seed: int) -> None:
    """Kill one worker after the other, or pause it; each when as much of the work is done as chance
    says, so that this is spread over all of it."""
    chance = random.Random(seed)
    shares = sorted(chance.uniform(0.05, 0.95) for _ in range(kills))
    for number, share in enumerate(shares):
        wanted = int(share * load.exceptions)
        wait_until(
            lambda wanted=wanted: len(fleet.receiver.done) >= wanted,
            seconds=LONGEST,
            what=f"{wanted} of {load.exceptions} effects",
        )
        end = fleet.pause if fleet.pauses and number % 3 == 2 else fleet.kill
        end(chance.choice(fleet.workers))


def check(fleet: Fleet, load: Load) -> None:
    """Everything that was promised, of every exception."""
    wait_until(lambda: load.over, seconds=LONGEST, what="everything is raised")
    try:
        wait_until(lambda: not fleet.waiting(), seconds=LONGEST, what="everything is handled")
    except AssertionError as error:
        raise AssertionError(f"{error}; left: {fleet.left()}") from None
    assert sorted(load.numbers.values()) == list(range(load.exceptions))
    _check_effects(fleet.receiver, load.numbers)
    with fleet.database.read(EVERY_ROW) as session:
        found = {
            row[0]: row[1] for row in session.execute(text("SELECT id, status FROM incidents"))
        }
        dead = session.scalars(text("SELECT lane FROM tasks WHERE state = 'dead'")).all()
        events = session.execute(
            text("SELECT incident_id, sequence, type FROM incident_events ORDER BY 1, 2")
        ).all()
    failing = {name for name, number in load.numbers.items() if fate(number) in FOR_GOOD}
    assert found == {name: "failed" if name in failing else "resolved" for name in load.numbers}
    assert sorted(dead) == sorted(failing)
    histories = {name: list(of) for name, of in groupby(events, key=lambda row: row[0])}
    assert histories.keys() == load.numbers.keys()
    for name, history in histories.items():
        assert [row[1] for row in history] == list(range(1, len(history) + 1)), name
        told = [row[2] for row in history if row[2] != "RetryScheduled"]
        assert told == _history(load.numbers[name]), (name, told)


def _check_effects(receiver: Counting, numbers: dict[str, int]) -> None:
    """Each effect once, under one key, in the order of its incident; none of what never works."""
    wanted: dict[str, list[str]] = {}
    for name, number in numbers.items():
        if fate(number) not in FOR_GOOD:
            wanted[name] = ["handle", "second", "third"][: steps(number)]
    assert dict(receiver.steps) == wanted
    assert set(receiver.done.values()) - {0} == {1}
    assert sum(receiver.done.values()) == sum(map(len, wanted.values()))
    assert {len(keys) for keys in receiver.keys.values()} == {1}


def _history(number: int) -> list[str]:
    """The types of an exception's events, in order."""
    called = ["StepExecutionRequested", "ToolExecutionRequested", "ToolExecutionCompleted"]
    begun = ["ExceptionIngested", "ExceptionNormalized", "TriageCompleted", "PolicyEvaluated"]
    begun.append("PlaybookMatched")
    if fate(number) in FOR_GOOD:
        return [*begun, *called[:2], "DeadLettered"]
    rest = [*called, "StepCompleted"] * 2 if steps(number) > 1 else ["StepCompleted"] * 2
    ended = ["PlaybookCompleted", "ExceptionResolved", "FeedbackCaptured"]
    return [*begun, *called, "StepCompleted", *rest, *ended]


def check_log(records: Iterable[dict[str, Any]], load: Load) -> None:
    """The log has every event of every incident, in order; one may be there again."""
    known: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for record in records:
        events = known[record["exceptionId"]]
        if events.setdefault(record["eventId"], record["sequence"]) == len(events):
            continue
        assert record["sequence"] < len(events), "an event came before one that it follows"
    assert known.keys() == load.numbers.keys()
    for name, events in known.items():
        assert sorted(events.values()) == list(range(1, len(events) + 1)), name
        assert len(events) >= len(_history(load.numbers[name])), name


def segments(directory: Path) -> Iterator[dict[str, Any]]:
    """What the log of a data directory that nobody has open holds."""
    with ExitStack() as stack:
        log = stack.enter_context(closing(open_log(directory)))
        reader = stack.enter_context(closing(log.consumer("chaos")))
        while records := reader.poll(max_records=5000, max_bytes=1 << 26, timeout=0):
            yield from (orjson.loads(each.payload) for each in records)


def topic(bootstrap: str, name: str) -> Iterator[dict[str, Any]]:
    """What a topic holds, all of one partition and then of the next."""
    settings = {"bootstrap.servers": bootstrap, "group.id": "chaos", "enable.auto.commit": False}
    with ExitStack() as stack:
        reader = Consumer(settings)
        stack.callback(reader.close)
        for number in reader.list_topics(name).topics[name].partitions:
            place = TopicPartition(name, number, OFFSET_BEGINNING)
            first, end = reader.get_watermark_offsets(place, timeout=30)
            reader.assign([place])
            left = end - first
            while left > 0:
                messages = reader.consume(min(left, 5000), timeout=30)
                assert messages, "the topic ends too early"
                left -= len(messages)
                for each in messages:
                    assert not each.error(), each.error()
                    yield orjson.loads(each.value() or b"")
