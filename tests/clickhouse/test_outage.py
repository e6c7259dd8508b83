"""The server goes away under load, in each of the ways it can: nothing is lost or counted twice."""

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from nilometer.clickhouse.store import Store, StoreUnavailable
from nilometer.database.engine import Database
from nilometer.database.migrate import migrate
from nilometer.log.sqlite import SqliteLog
from nilometer.pipeline.dead_letters import DeadLetters
from nilometer.pipeline.pipeline import Pipeline
from tests.clickhouse_server.running import ClickHouseServer
from tests.clickhouse_server.stores import addressed, running
from tests.log.logs import open_log
from tests.pipeline import rows
from tests.pipeline.records import ACCEPTED_AT, envelope
from tests.running import wait_until

PROJECT = 1
RECORDS = 1500
# Rows of one insert: large enough that a kill finds one under way.
ROWS = 2000


class River:
    """A log that fills, and a pipeline that carries it to a store on a server."""

    def __init__(self, directory: Path, server: ClickHouseServer) -> None:
        self.server = server
        self.uuids: list[str] = []
        # To make its tables, and to look, takes as long as it takes.
        self.patient = Store(addressed(server))
        self.patient.open()
        self.store = Store(addressed(server, timeout=5))
        self.store.open()
        self.log: SqliteLog = open_log(directory / "log")
        self.database = Database(f"sqlite:///{directory / 'nilometer.db'}")
        migrate(self.database)
        self.dead_letters = DeadLetters(self.database)
        self.pipeline = Pipeline(
            log=self.log,
            store=self.store,
            dead_letters=self.dead_letters,
            batch_records=100,
            linger=0,
        )
        self.away = threading.Event()
        """The second half of the records waits for it."""
        self._filling = threading.Thread(target=self._fill)

    def flow(self) -> None:
        self.pipeline.start()
        self._filling.start()

    def stored(self) -> int:
        return self.patient.query("SELECT count() FROM event_ids FINAL").rows[0][0]

    def end(self) -> None:
        """Wait until the log is read to its end."""
        self._filling.join()
        wait_until(
            lambda: not self.log.state().groups["store"].records and self.pipeline.state().running,
            seconds=60,
            what="the pipeline to catch up",
        )

    def close(self) -> None:
        self.away.set()
        if self._filling.ident is not None:
            self._filling.join()
        self.pipeline.stop(10)
        for part in (self.log, self.database, self.store, self.patient):
            part.close()

    def _fill(self) -> None:
        for number in range(RECORDS):
            if number == RECORDS // 2:
                self.away.wait()
            record = envelope(
                PROJECT,
                str(uuid.UUID(int=number)),
                accepted_at=ACCEPTED_AT + number,
                properties={"$ai_model": "gpt-4o", "$ai_input": "x" * 2000},
            )
            self.log.append_blocking(record)
            self.uuids.append(record.uuid)


@pytest.fixture
def river(tmp_path: Path) -> Iterator[River]:
    with running(tmp_path / "server") as server, closing(River(tmp_path, server)) as river:
        yield river


def stopped(server: ClickHouseServer) -> Callable[[], object]:
    server.stop()
    return server.start


def killed(server: ClickHouseServer) -> Callable[[], object]:
    server.kill()
    return server.start


def paused(server: ClickHouseServer) -> Callable[[], object]:
    server.pause()
    return server.resume


@pytest.mark.parametrize("outage", [stopped, killed, paused])
def test_a_server_that_goes_away_under_load(
    river: River, outage: Callable[[ClickHouseServer], Callable[[], object]]
):
    river.flow()
    wait_until(lambda: river.stored() >= 200, seconds=60)
    back = outage(river.server)
    river.away.set()
    wait_until(lambda: river.pipeline.state().reason == "store")
    # It waits: no record is blamed, none is passed.
    waiting = river.log.state().groups["store"].records
    river._filling.join()
    assert river.log.state().groups["store"].records >= waiting > 0
    back()
    river.pipeline.resume()  # at once: by itself it waits longer from try to try
    river.end()
    assert rows.uuids(river.patient, PROJECT) == river.uuids
    assert river.dead_letters.list(PROJECT).items == []


def test_a_call_with_a_name_of_any_length_comes_again(river: River):
    """Longer than a server takes as one value, and many of them than it takes in one request."""
    records = [
        envelope(
            PROJECT,
            str(uuid.UUID(int=number)),
            accepted_at=ACCEPTED_AT + number,
            properties={"$ai_model": "gpt-4o", "$ai_response_id": f"{number}{'x' * 900_000}"},
        )
        for number in range(14)
    ]
    for record in records * 2:
        river.log.append_blocking(record)
    while (
        river.log.state().groups.get("store") is None or river.log.state().groups["store"].records
    ):
        assert river.pipeline.run_once(1)
    assert rows.uuids(river.patient, PROJECT) == [record.uuid for record in records]
    assert len(rows.final(river.patient, "calls", PROJECT)) == len(records)


def test_a_kill_during_inserts_loses_nothing_and_halves_nothing(tmp_path: Path):
    """As with the engine in process; here the client sees the end of the server."""
    with running(tmp_path / "server") as server, closing(Store(addressed(server))) as store:
        store.open()
        for begin in (0, 1000, 2000):
            acknowledged = _insert_until_down(store, begin, server.kill)
            server.start()
            found = dict(
                store.query(
                    "SELECT project_id, count() FROM events "
                    f"WHERE project_id >= {begin} GROUP BY project_id"
                ).rows
            )
            assert set(found.values()) == {ROWS}, "an insert is all there or not at all"
            assert set(found) >= set(acknowledged), "an insert that returned is there"
            assert len(found) <= len(acknowledged) + 2, "one more of each thread, at most"


def _insert_until_down(store: Store, begin: int, kill: Callable[[], None]) -> list[int]:
    """Insert from two threads until the server is gone; the projects whose inserts returned."""
    acknowledged: list[int] = []

    def insert(first: int) -> None:
        for project in range(first, begin + 1000, 2):
            try:
                store.insert("events", _events(project))
            except StoreUnavailable:
                return
            acknowledged.append(project)

    threads = [threading.Thread(target=insert, args=(begin + n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(acknowledged) >= 5)
    kill()
    for thread in threads:
        thread.join()
    return acknowledged


def _events(project_id: int) -> list[dict[str, object]]:
    now = datetime.now(UTC)
    return [
        {
            "project_id": project_id,
            "uuid": str(uuid.uuid4()),
            "event": "$ai_span",
            "timestamp": now,
            "accepted_at": now,
            "expires_at": now,
            "properties": '{"a":"' + "a prompt " * 100 + '"}',
        }
        for _ in range(ROWS)
    ]
