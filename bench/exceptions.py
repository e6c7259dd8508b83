"""Exceptions through the whole chain: from the POST to the call of a tool, at a local server that
counts them. Embedded is one process; distributed is one API process and 1, 2 and 4 workers, on
Kafka, PostgreSQL and ClickHouse of its own.

    python -m bench exceptions

- Throughput: so many exceptions, 20 in a request, on 4 connections; `called_per_second` until the
  last tool was called, `closed_per_second` until nothing of any is left to do.
- Latency: one in a request at a steady rate, from the request to the call of its tool. The rate is
  500 a second, or half of what was closed where that is less than 1,000.
- Fairness: ten a second of one tenant, alone, and while another posts all that it is let.
- The limit beside it, on SQLite: the rows that all this left, written again into an empty database
  by the driver alone, those of 100 exceptions in each durable commit.

Everything is on this machine, generator and receiver included.
"""

from __future__ import annotations

import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from statistics import quantiles
from typing import Any

import httpx
from sqlalchemy import text

from bench import load
from bench.distributed import peak_mb, processor_seconds, stage
from nilometer.database.engine import Database
from nilometer.database.fence import EVERY_ROW
from tests.integration.orders import SETTINGS, Tenant, order, request, tenant
from tests.private_servers import ClickHouseServer, private
from tests.running import NO_TLS, Server, wait_until
from tests.tools.counting import Counting, counting

WORKERS = (1, 2, 4)
AIM = 1000
_BATCH = 20
_FLOOD = 100
_CONNECTIONS = 4
_STEADY_CONNECTIONS = 64
_SMALL_RATE = 10
_LONGEST = 300
_ROWS_OF = ("incidents", "incident_events", "tool_executions")
_FLOOR_COMMIT = 100


def measure(exceptions: int, seconds: float) -> dict[str, Any]:
    """So many exceptions for the throughput, and so many seconds at a steady rate."""
    return {
        "exceptions": exceptions,
        "seconds": seconds,
        "embedded": _embedded(exceptions, seconds),
        "distributed": [_distributed(exceptions, seconds, workers) for workers in WORKERS],
    }


def _embedded(exceptions: int, seconds: float) -> dict[str, Any]:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = Server(directory / "data", **SETTINGS).start()
        stack.callback(server.kill)
        server.wait_ready()
        database = stack.enter_context(
            closing(Database(f"sqlite:///{directory / 'data' / 'nilometer.db'}"))
        )
        chain = _Chain(server, [server], database, stack.enter_context(counting()))
        found = {**chain.throughput(exceptions), **chain.latency(seconds)}
        floor = _floor(directory / "data" / "nilometer.db", directory / "floor.db")
        found |= {
            "floor_per_second": round(floor),
            "of_floor": round(found["closed_per_second"] / floor, 3),
        }
        return found | {"fairness": chain.fairness(seconds)}


def _distributed(exceptions: int, seconds: float, workers: int) -> dict[str, Any]:
    with ExitStack() as stack:
        servers = stack.enter_context(stage())
        clickhouse = stack.enter_context(private(ClickHouseServer))
        settings = {**servers.settings, **SETTINGS, **servers.topic()}
        settings |= {"CLICKHOUSE_URL": clickhouse.url()}
        door = servers.server("api", **settings)
        started = [servers.server("worker", **settings) for _ in range(workers)]
        for each in (door, *started):
            each.start()
            stack.callback(each.kill)
        for each, role in ((door, "api"), *((each, "worker") for each in started)):
            each.wait_ready(role, seconds=120)
        database = stack.enter_context(closing(Database(settings["DATABASE_URL"])))
        chain = _Chain(door, started, database, stack.enter_context(counting()))
        found = {"workers": workers, **chain.throughput(exceptions), **chain.latency(seconds)}
        return found | {"fairness": chain.fairness(seconds)}


@dataclass
class _Chain:
    """A deployment: where to post, who works, and the receiver of the tools."""

    door: Server
    workers: Sequence[Server]
    database: Database
    receiver: Counting

    def __post_init__(self) -> None:
        self._marks = count()
        self._tenant = self._made("bench")
        self._run(5 * _BATCH)  # warm

    def throughput(self, exceptions: int) -> dict[str, Any]:
        """Exceptions a second, and what each worker used for them."""
        used = [processor_seconds(each.process.pid) for each in self.workers]
        began = time.perf_counter()
        called, closed = self._run(exceptions)
        took = time.perf_counter() - began
        spent = [
            processor_seconds(each.process.pid) - before
            for each, before in zip(self.workers, used, strict=True)
        ]
        self._rate = min(AIM / 2, exceptions / closed / 2)
        return {
            "called_per_second": round(exceptions / called),
            "closed_per_second": round(exceptions / closed),
            "processor_us_per_exception": round(sum(spent) / exceptions * 1e6),
            "processors_of_a_worker": [round(each / took, 2) for each in spent],
            "peak_mb_of_a_worker": [peak_mb(each.process.pid) for each in self.workers],
        }

    def latency(self, seconds: float) -> dict[str, Any]:
        """From the request to the call of the tool, at half of the aim, or of what there is."""
        waits, answers = self._steady(self._tenant, self._rate, seconds)
        return {
            "rate": round(self._rate),
            **waits,
            "accepted_p50_ms": round(answers.quantile(0.5), 1),
            "accepted_p99_ms": round(answers.quantile(0.99), 1),
        }

    def fairness(self, seconds: float) -> dict[str, Any]:
        """A small tenant's times alone, and beside one that floods."""
        small, large = self._made("small"), self._made("large")
        alone, _ = self._steady(small, _SMALL_RATE, seconds)
        with self._flood(large) as flooded:
            beside, _ = self._steady(small, _SMALL_RATE, seconds)
        return {
            "rate": _SMALL_RATE,
            "alone": alone,
            "beside": beside,
            "ratio": round(beside["p99_ms"] / alone["p99_ms"], 2),
            "flooded_per_second": round(flooded() / seconds),
        }

    def _made(self, name: str) -> Tenant:
        return tenant(self.door.url, self.receiver, name)

    def _run(self, exceptions: int) -> tuple[float, float]:
        """Post so many as fast as they are taken; the seconds until the last call, and until
        nothing is left."""
        first, before = next(self._marks), len(self.receiver.arrived)
        began = time.perf_counter()
        result = load.closed_loop(
            self.door.port,
            self._batches(self._tenant, _BATCH),
            connections=_CONNECTIONS,
            seconds=_LONGEST,
            requests=exceptions // _BATCH,
        )
        assert set(result.statuses) == {202}, result.statuses
        last = next(self._marks)
        wait_until(
            lambda: len(self.receiver.arrived) - before >= exceptions,
            seconds=_LONGEST,
            what="every tool is called",
        )
        called = max(self.receiver.arrived[each] for each in range(first + 1, last)) - began
        wait_until(lambda: not self._left(), seconds=_LONGEST, what="all are closed")
        return called, time.perf_counter() - began

    def _batches(self, of: Tenant, size: int) -> Callable[[], bytes]:
        return lambda: request(of, [order(next(self._marks)) for _ in range(size)])

    def _steady(
        self, of: Tenant, rate: float, seconds: float
    ) -> tuple[dict[str, Any], load.Result]:
        sent: dict[int, float] = {}

        def make() -> bytes:
            mark = next(self._marks)
            body = request(of, [order(mark)])
            sent[mark] = time.perf_counter()
            return body

        answers = load.steady(
            self.door.port, make, rate=rate, seconds=seconds, connections=_STEADY_CONNECTIONS
        )
        assert set(answers.statuses) == {202}, answers.statuses
        wait_until(
            lambda: sent.keys() <= self.receiver.arrived.keys(),
            seconds=_LONGEST,
            what="every tool is called",
        )
        waits = [self.receiver.arrived[mark] - at for mark, at in sent.items()]
        cuts = quantiles(waits, n=100)
        return {"p50_ms": round(cuts[49] * 1e3, 1), "p99_ms": round(cuts[98] * 1e3, 1)}, answers

    @contextmanager
    def _flood(self, of: Tenant) -> Iterator[Callable[[], int]]:
        """Another thread posts as much as is taken; how many were."""
        taken, stopping = [0], threading.Event()

        def post() -> None:
            with httpx.Client(verify=NO_TLS, timeout=60) as client:
                headers = {"Authorization": f"Bearer {of.key}"}
                body = {"exceptions": [order() for _ in range(_FLOOD)]}
                while not stopping.is_set():
                    answer = client.post(f"{self.door.url}/exceptions", json=body, headers=headers)
                    if answer.status_code == 202:
                        taken[0] += _FLOOD
                    else:
                        stopping.wait(0.1)

        threads = [threading.Thread(target=post) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            yield lambda: taken[0]
        finally:
            stopping.set()
            for thread in threads:
                thread.join()

    def _left(self) -> int:
        """How many tasks of exceptions are not done."""
        with self.database.read(EVERY_ROW) as session:
            return session.scalar(text("SELECT count(*) FROM tasks")) or 0


def _floor(database: Path, empty: Path) -> float:
    """Exceptions a second that the driver alone writes, with all that a database keeps of each."""
    with (
        closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as source,
        closing(sqlite3.connect(empty, isolation_level=None)) as target,
    ):
        target.execute("PRAGMA journal_mode = WAL")
        target.execute("PRAGMA synchronous = FULL")
        rows: list[tuple[str, dict[str, list[tuple[Any, ...]]]]] = []
        for table in _ROWS_OF:
            made = source.execute(
                "SELECT sql FROM sqlite_master WHERE tbl_name = ? AND sql IS NOT NULL "
                "ORDER BY type = 'index'",
                [table],
            )
            for (sql,) in made.fetchall():
                target.execute(sql)
            key = "id" if table == "incidents" else "incident_id"
            found = source.execute(f"SELECT {key}, * FROM {table} ORDER BY {key}").fetchall()
            by_incident: dict[str, list[tuple[Any, ...]]] = {}
            for incident, *values in found:
                by_incident.setdefault(incident, []).append(tuple(values))
            marks = ", ".join("?" * (len(found[0]) - 1))
            rows.append((f"INSERT INTO {table} VALUES ({marks})", by_incident))
        ids = list(rows[0][1])
        began = time.perf_counter()
        for first in range(0, len(ids), _FLOOR_COMMIT):
            target.execute("BEGIN IMMEDIATE")
            for statement, of in rows:
                some = [row for each in ids[first : first + _FLOOR_COMMIT] for row in of[each]]
                target.executemany(statement, some)
            target.execute("COMMIT")
        return len(ids) / (time.perf_counter() - began)
