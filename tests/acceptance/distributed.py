"""A deployment of the distributed profile, of the suite's own: a process for each role.

Kafka, the S3 server and ClickHouse are its alone, because the suite takes servers away. PostgreSQL
is the one that all tests share, with a database of its own.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests import services
from tests.acceptance.deployment import ROOT
from tests.acceptance.server_faults import BUCKET, Rights
from tests.database import servers as databases
from tests.database.reaching import url_of
from tests.private_servers import ClickHouseServer, KafkaServer, S3Server, private
from tests.running import KEY, Server
from tests.servers.postgres import PostgresServer
from tests.servers.server import free_port
from tests.services import PostgresService, S3Service

_COMMANDS = {
    "LLMA_STOP_S3_COMMAND": "stop s3",
    "LLMA_START_S3_COMMAND": "start s3",
    "LLMA_DENY_S3_COMMAND": "deny s3",
    "LLMA_ALLOW_S3_COMMAND": "allow s3",
    "LLMA_STOP_LOG_COMMAND": "stop kafka",
    "LLMA_START_LOG_COMMAND": "start kafka",
}
# A server whose port is given takes others that follow from it: up to here they are free to take.
_LAST_PORT = 22_000


@contextmanager
def distributed(directory: Path) -> Iterator[dict[str, str]]:
    """A running deployment, as the environment variables that tell a client about it."""
    with ExitStack() as stack:
        kafka, s3, clickhouse = _servers(stack)
        _remember(directory, kafka, s3)
        storage = S3Service(s3.address)
        storage.client().create_bucket(Bucket=BUCKET)
        credentials = Rights(s3.address).grant_to_new_user()
        settings = {
            "PROFILE": "distributed",
            "DATABASE_URL": _database(stack),
            "KAFKA_BOOTSTRAP_SERVERS": kafka.address,
            # In one partition, what the suite expects not to be stored would be stored before what
            # it waits for.
            "KAFKA_PARTITIONS": 1,
            "KAFKA_ALLOW_SINGLE_REPLICA": "true",
            "KAFKA_DELIVERY_TIMEOUT": 10,  # longer than a broker that is well may be kept waiting
            "CLICKHOUSE_URL": clickhouse.url(),
            "BLOBS_URL": f"s3://{BUCKET}",
            "S3_ENDPOINT": s3.address,
            "PIPELINE_LINGER": 0.05,
        }
        processes = {
            role: Server(directory / "unused", environment=credentials, ROLE=role, **settings)
            for role in ("api", "capture", "worker")
        }
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda role: _start(stack, processes[role], role), processes))
        yield _environment(directory, processes, storage)


def _start(stack: ExitStack, server: Server, role: str) -> None:
    server.start()
    stack.callback(server.kill)
    server.wait_ready(role, seconds=90)


def _database(stack: ExitStack) -> str:
    """The URL of an empty database, for a role that row-level security holds for."""
    postgres = services.running("postgres")
    assert isinstance(postgres, PostgresServer)
    return url_of(stack.enter_context(databases.empty(PostgresService(postgres))))


def _remember(directory: Path, *servers: KafkaServer | S3Server) -> None:
    """Tell the commands that take servers away which ones."""
    places = {each.name: {"folder": str(each.folder), "port": each.port} for each in servers}
    (directory / "state.json").write_text(json.dumps({"owner": os.getpid()} | places))


def _servers(stack: ExitStack) -> tuple[KafkaServer, S3Server, ClickHouseServer]:
    """All at once: each takes seconds to start."""
    with ThreadPoolExecutor(3) as pool:
        kafka = pool.submit(stack.enter_context, private(KafkaServer, port=free_port(_LAST_PORT)))
        s3 = pool.submit(stack.enter_context, private(S3Server, port=free_port(_LAST_PORT)))
        clickhouse = pool.submit(stack.enter_context, private(ClickHouseServer))
        return kafka.result(), s3.result(), clickhouse.result()


def _environment(
    directory: Path, processes: dict[str, Server], storage: S3Service
) -> dict[str, str]:
    """The variables of the local block in docs/acceptance.md, and those beside it."""
    command = shlex.join([sys.executable, "-m", "tests.acceptance.server_faults", str(directory)])
    run = f"cd {shlex.quote(str(ROOT))} && {command}"
    return {
        "POSTHOG_HOST": processes["api"].url,
        "POSTHOG_API_KEY": KEY,
        "POSTHOG_PROJECT_ID": "1",
        "AWS_ENDPOINT_URL": storage.endpoint,
        "AWS_ACCESS_KEY_ID": storage.access_key,
        "AWS_SECRET_ACCESS_KEY": storage.secret_key,
        "AWS_DEFAULT_REGION": storage.region,
        "LLMA_S3_BUCKET": BUCKET,
        "CAPTURE_ENDPOINT": processes["capture"].url,
        "LLMA_TEST_MODE": "local",
        "LLMA_PROCESSES": " ".join(server.url for server in processes.values()),
        **{name: f"{run} {fault}" for name, fault in _COMMANDS.items()},
    }
