"""What the measurements of the distributed profile share: servers of their own, processes, cost.

Every server and process is on this machine, the generator too, so shares of a processor are what
carries to other machines, and events a second do not.
"""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.private_servers import KafkaServer, PostgresServer, private
from tests.running import Server

PARTITIONS = 16
_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Stage:
    """The servers, and the settings that name them."""

    kafka: KafkaServer
    settings: dict[str, Any]
    directory: Path

    def server(self, role: str, **more: Any) -> Server:
        """A process that is not started."""
        return Server(self.directory / "unused", **{"ROLE": role, **self.settings, **more})

    @staticmethod
    def topic() -> dict[str, Any]:
        """Settings of another topic: nothing is there yet."""
        return {"KAFKA_TOPIC": f"bench-{uuid.uuid4().hex[:12]}"}


@contextmanager
def stage() -> Iterator[Stage]:
    """Servers for the length of the block, but for a store: capture alone can run. Blobs, which
    these measurements have none of, would be in a directory."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        kafka = stack.enter_context(private(KafkaServer))
        postgres = stack.enter_context(private(PostgresServer))
        yield Stage(
            kafka,
            {
                "PROFILE": "distributed",
                "KAFKA_BOOTSTRAP_SERVERS": kafka.address,
                "KAFKA_PARTITIONS": PARTITIONS,
                "KAFKA_ALLOW_SINGLE_REPLICA": "true",
                "DATABASE_URL": postgres.url(),
                "CLICKHOUSE_URL": "clickhouse://nobody@127.0.0.1:9/nilometer",
                "BLOBS_URL": (directory / "blobs").as_uri(),
            },
            directory,
        )


def processor_seconds(pid: int) -> float:
    """What a process, all its threads, has used of the processor until now."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def peak_mb(pid: int) -> int:
    """The most resident memory that a process has had, in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) >> 10
