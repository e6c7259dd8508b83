"""A real server for one test alone, to stop, kill and pause: faults must not meet other tests.

    with private(KafkaServer) as kafka:      # or (PostgresServer), (S3Server)
        kafka.address
        kafka.pause()                        # connections are accepted, nothing answers
        kafka.resume()
        kafka.kill()                         # a power cut; kafka.stop() ends it in order
        kafka.start()                        # on the same port, with what it had stored

A start takes Kafka about 5 seconds and the others 3 on an idle machine, so one server usually
serves a module. It is ended with the block, or when the test process was killed, by the next
`scripts/services`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from tests.servers.clickhouse import ClickHouseServer
from tests.servers.kafka import KafkaCluster, KafkaServer
from tests.servers.postgres import PostgresServer
from tests.servers.s3 import S3Server
from tests.servers.server import Server
from tests.servers.shared import PRIVATE

__all__ = [
    "ClickHouseServer",
    "KafkaCluster",
    "KafkaServer",
    "PostgresServer",
    "S3Server",
    "private",
    "private_cluster",
]

S = TypeVar("S", bound=Server)


@contextmanager
def private(kind: type[S], folder: Path | None = None, **options: Any) -> Iterator[S]:
    """A started server on a free port, ended and removed with the block.

    `options` are its own: `properties` of Kafka's broker, `settings` of PostgreSQL. A `folder`
    says where it stores, on a small disk for example; the caller removes that one."""
    place = folder or PRIVATE / f"{kind.name}-{os.getpid()}-{uuid4().hex[:12]}"
    server = kind(place, owner=os.getpid(), **options)
    try:
        yield server.start()
    finally:
        server.kill()
        server.wipe()
        if folder is None:
            shutil.rmtree(place)


@contextmanager
def private_cluster(size: int = 3) -> Iterator[KafkaCluster]:
    """A started cluster of Kafka nodes, ended and removed with the block."""
    place = PRIVATE / f"kafka-cluster-{os.getpid()}-{uuid4().hex[:12]}"
    cluster = KafkaCluster(place, size, os.getpid())
    try:
        yield cluster.start()
    finally:
        cluster.kill()
        shutil.rmtree(place)
