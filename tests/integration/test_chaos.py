"""Many exceptions of many tenants, tools that fail, and workers that are killed at any moment: each
effect once, order kept, and given up is what can never work and nothing else.

NILOMETER_CHAOS_EXCEPTIONS says how many (`make soak`: 10,000); NILOMETER_CHAOS_SEED repeats a run's
kills.
"""

from __future__ import annotations

import os
import random
import re
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from nilometer.database.engine import Database
from tests.clickhouse_server.running import ClickHouseServer
from tests.database import servers
from tests.database.reaching import url_of
from tests.integration import chaos
from tests.integration.chaos import Fleet, Load
from tests.integration.orders import SETTINGS
from tests.running import NO_TLS, Server, wait_until
from tests.servers.server import free_port
from tests.services import KafkaService, PostgresService
from tests.tools.counting import Counting, counting

EXCEPTIONS = int(os.environ.get("NILOMETER_CHAOS_EXCEPTIONS", "1000"))
SEED = int(os.environ.get("NILOMETER_CHAOS_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
WORKERS = 4
_CLAIMED = re.compile(r'nilometer_tasks_claimed_total\{queue="[a-z]+"\} ([0-9.e+]+)')


@pytest.fixture
def receiver() -> Iterator[Counting]:
    with counting() as receiver:
        yield receiver


@pytest.mark.timeout(300 + EXCEPTIONS / 10)
def test_one_process_killed_again_and_again_does_everything_once_and_in_order(
    tmp_path: Path, receiver: Counting
) -> None:
    sys.stdout.write(f"seed {SEED}\n")
    directory = tmp_path / "data"
    with ExitStack() as stack:
        server = Server(directory, PORT=free_port(), **SETTINGS).start()
        stack.callback(lambda: server.process.poll() is None and server.kill())
        server.wait_ready(seconds=120)
        database = Database(f"sqlite:///{directory / 'nilometer.db'}")
        stack.enter_context(closing(database))
        fleet = Fleet(server, [server], database, receiver, role="api")
        with Load(fleet, EXCEPTIONS) as load:
            load.may_go_on.set()
            chaos.kill_at_random(fleet, load, kills=5, seed=SEED)
            chaos.check(fleet, load)
        wait_until(fleet.told, seconds=chaos.LONGEST, what="the log has every event")
        server.kill()
        chaos.check_log(chaos.segments(directory / "log-exceptions"), load)


@pytest.mark.kafka
@pytest.mark.timeout(300 + EXCEPTIONS / 10)
def test_workers_that_join_and_are_killed_do_everything_once_and_in_order(
    tmp_path: Path, receiver: Counting, kafka: KafkaService, postgres: PostgresService
) -> None:
    """One worker begins; three join it under load, and then any of them dies at any time, or is
    not heard of for longer than its leases."""
    sys.stdout.write(f"seed {SEED}\n")
    with ExitStack() as stack:
        clickhouse = ClickHouseServer(tmp_path / "clickhouse").start()
        stack.callback(clickhouse.stop)
        database = stack.enter_context(servers.empty(postgres))
        topic = kafka.new_topic()
        settings: dict[str, Any] = {
            "PROFILE": "distributed",
            "DATABASE_URL": url_of(database),
            "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
            "KAFKA_TOPIC": topic,
            "KAFKA_PARTITIONS": 8,
            "KAFKA_ALLOW_SINGLE_REPLICA": "true",
            "KAFKA_SESSION_TIMEOUT": 6,
            "CLICKHOUSE_URL": clickhouse.url(),
            "BLOBS_URL": (tmp_path / "blobs").as_uri(),
            "TASK_LEASE": 3,
            **SETTINGS,
        }

        def started(role: str) -> Server:
            server = Server(tmp_path / uuid.uuid4().hex, ROLE=role, PORT=free_port(), **settings)
            server.start()
            stack.callback(lambda: server.process.poll() is None and server.kill())
            return server

        door, first = started("api"), started("worker")
        door.wait_ready("api", seconds=120)
        first.wait_ready("worker", seconds=120)
        fleet = Fleet(door, [first], database, receiver, pauses=True)
        with Load(fleet, EXCEPTIONS) as load:
            wait_until(
                lambda: len(receiver.done) > EXCEPTIONS / 20, seconds=120, what="the first works"
            )
            joining = [started("worker") for _ in range(WORKERS - 1)]
            for each in joining:
                each.wait_ready("worker", seconds=120)
            load.may_go_on.set()
            for each in joining:
                wait_until(lambda each=each: _claimed(each), seconds=120, what="a new one works")
            fleet.workers += joining
            chaos.kill_at_random(fleet, load, kills=8, seed=SEED)
            chaos.check(fleet, load)
        wait_until(fleet.told, seconds=chaos.LONGEST, what="the log has every event")
        chaos.check_log(chaos.topic(kafka.bootstrap, f"{topic}-exceptions"), load)


def _claimed(worker: Server) -> float:
    """How many tasks a worker has claimed."""
    try:
        page = httpx.get(f"{worker.url}/metrics", timeout=60, verify=NO_TLS).text
    except httpx.HTTPError:
        return 0
    return sum(float(each) for each in _CLAIMED.findall(page))
