"""A deployment of the distributed profile to kill: every process and every server its own."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from tests.database import servers as databases
from tests.database.reaching import url_of
from tests.private_servers import (
    ClickHouseServer,
    KafkaCluster,
    KafkaServer,
    PostgresServer,
    S3Server,
    private,
    private_cluster,
)
from tests.running import Server
from tests.servers.server import Server as OwnServer
from tests.servers.server import free_port
from tests.services import PostgresService, S3Service
from tests.soak.script import Target

TOPIC = "soak"
_BUCKET = "soak"
_ROLES = ("capture", "capture", "worker", "worker", "api")


@dataclass(frozen=True)
class Deployment:
    """What runs: its processes by name, `capture-1` to `api-1`; and all that can be ended."""

    bootstrap: str
    processes: dict[str, Server]
    targets: dict[str, Target]

    def urls(self, role: str) -> list[str]:
        """Where the processes of a role are."""
        return [each.url for name, each in self.processes.items() if name.startswith(role)]

    @contextmanager
    def telling(self) -> Iterator[None]:
        """A check that fails within it says how the processes were: a run of minutes under chance
        is not seen again."""
        try:
            yield
        except AssertionError as error:
            for name, process in self.processes.items():
                error.add_note(f"{name}: {_state(process, _role(name))}")
            raise


@contextmanager
def deployed(directory: Path, brokers: int, **settings: Any) -> Iterator[Deployment]:
    """Two processes each for capture and work, one for the API, over Kafka, PostgreSQL, S3 and the
    ClickHouse fixture. With one broker, Kafka is away while that is."""
    with ExitStack() as stack:
        kafka, postgres, s3, clickhouse = _servers(stack, brokers)
        storage = S3Service(s3.address)
        storage.client().create_bucket(Bucket=_BUCKET)
        database = stack.enter_context(databases.empty(PostgresService(postgres)))
        told = {
            "PROFILE": "distributed",
            "DATABASE_URL": url_of(database),
            "KAFKA_BOOTSTRAP_SERVERS": kafka.address,
            "KAFKA_TOPIC": TOPIC,
            "KAFKA_PARTITIONS": 8,
            "KAFKA_ALLOW_SINGLE_REPLICA": str(brokers == 1).lower(),
            "CLICKHOUSE_URL": clickhouse.url(),
            "BLOBS_URL": f"s3://{_BUCKET}",
            "S3_ENDPOINT": s3.address,
            **settings,
        }
        credentials = {
            "AWS_ACCESS_KEY_ID": storage.access_key,
            "AWS_SECRET_ACCESS_KEY": storage.secret_key,
            "AWS_REGION": storage.region,
        }
        processes: dict[str, Server] = {}
        for role in _ROLES:
            number = sum(name.startswith(role) for name in processes) + 1
            processes[f"{role}-{number}"] = Server(
                directory / "unused",
                environment=credentials,
                ROLE=role,
                PORT=free_port(),
                **told,
            )
        with ThreadPoolExecutor() as pool:
            list(pool.map(partial(_start, stack), processes, processes.values()))
        targets = {name: _process(name, process) for name, process in processes.items()}
        nodes = kafka.nodes if isinstance(kafka, KafkaCluster) else [kafka]
        for number, node in enumerate(nodes, 1):
            targets[f"kafka-{number}"] = _server(f"kafka-{number}", node)
        for server in (postgres, s3, clickhouse):
            targets[server.name] = _server(server.name, server)
        yield Deployment(kafka.address, processes, targets)


def _servers(
    stack: ExitStack, brokers: int
) -> tuple[KafkaCluster | KafkaServer, PostgresServer, S3Server, ClickHouseServer]:
    """All at once: each takes seconds to start."""
    with ThreadPoolExecutor(4) as pool:
        enter = partial(pool.submit, stack.enter_context)
        kafka = enter(private_cluster(brokers) if brokers > 1 else private(KafkaServer))
        postgres, s3 = enter(private(PostgresServer)), enter(private(S3Server))
        clickhouse = enter(private(ClickHouseServer))
        return kafka.result(), postgres.result(), s3.result(), clickhouse.result()


def _server(name: str, server: OwnServer) -> Target:
    return Target(name, server.kill, server.stop, server.start)


def _process(name: str, process: Server) -> Target:
    def stop() -> None:
        assert process.stop() == 0, f"{name} did not end in order: {''.join(process.output)}"

    def start() -> None:
        process.start().wait_ready(_role(name), seconds=90)

    return Target(name, process.kill, stop, start, process.url)


def _state(process: Server, role: str) -> str:
    try:
        ready = httpx.get(f"{process.url}/_readiness", params={"role": role}, timeout=10).text
        metrics = httpx.get(f"{process.url}/metrics", timeout=10).text.splitlines()
    except httpx.HTTPError as error:
        return repr(error)
    telling = ("nilometer_log_lag", "nilometer_pipeline_waiting", "nilometer_pipeline_events_total")
    numbers = [line for line in metrics if line.startswith(telling)]
    return "\n".join([ready, *numbers, *process.output[-20:]])


def _role(name: str) -> str:
    return name.partition("-")[0]


def _start(stack: ExitStack, name: str, process: Server) -> None:
    process.start()
    stack.callback(_end, process)
    process.wait_ready(_role(name), seconds=90)


def _end(process: Server) -> None:
    if process.process.poll() is None:
        process.kill()
