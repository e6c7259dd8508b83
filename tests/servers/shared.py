"""The one server of each kind that tests share: where it is, whoever started it."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType

from tests.servers.clickhouse import ClickHouseServer
from tests.servers.dynamodb import DynamoDBServer
from tests.servers.kafka import KafkaServer
from tests.servers.postgres import PostgresServer
from tests.servers.process import ServerProcess, started_at
from tests.servers.s3 import S3Server
from tests.servers.server import SERVICES, Server, free_port, is_free

KINDS: Mapping[str, type[Server]] = MappingProxyType(
    {
        kind.name: kind
        for kind in (KafkaServer, PostgresServer, S3Server, DynamoDBServer, ClickHouseServer)
    }
)
PRIVATE = SERVICES / "private"


def server(name: str) -> Server:
    """The shared server, running or not, on the port that it was last started on."""
    kind, folder = KINDS[name], SERVICES / name
    recorded = folder / "port"
    running = ServerProcess(folder).pid is not None and recorded.exists()
    return kind(folder, int(recorded.read_text()) if running else kind.default_port)


def start(name: str) -> Server:
    """Start it on its documented port, or leave it as it runs; it stays until `stop`."""
    started = _started(server(name))
    _temporary(started).unlink(missing_ok=True)
    return started


def start_empty(name: str) -> Server:
    """For a while: without what it stored before, and on a free port when another program has its
    own. Leave it as it is when it runs."""
    found = server(name)
    if found.running:
        return found.start()
    if not all(map(is_free, found.ports())):
        found = KINDS[name](found.folder, free_port(22_000))
    found.wipe()
    _temporary(found).touch()
    return _started(found)


def _temporary(found: Server) -> Path:
    """Marks a server that is stopped when nobody uses it any more."""
    return found.folder / "temporary"


@contextmanager
def in_use() -> Iterator[None]:
    """The block uses the servers; the last user stops the temporary ones."""
    SERVICES.mkdir(parents=True, exist_ok=True)
    with (SERVICES / "users").open("w") as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        try:
            yield
        finally:
            with suppress(BlockingIOError):
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                for name in KINDS:
                    if _temporary(server(name)).exists():
                        stop(name)


def _started(found: Server) -> Server:
    found.folder.mkdir(parents=True, exist_ok=True)
    if not found.running:
        (found.folder / "port").write_text(str(found.port))
    return found.start()


def stop(name: str) -> Server:
    found = server(name)
    found.stop()
    return found


def end_orphans() -> None:
    """End the servers of single tests whose test process was killed before it could, and remove
    what they stored: it may be many gigabytes. The folder's name has the process's id."""
    for file in PRIVATE.glob("**/pid.json"):
        process = ServerProcess(file.parent)
        if process.orphaned():
            process.kill()
    for folder in PRIVATE.glob("*-*"):
        owner = folder.name.split("-")[-2]
        if owner.isdigit() and started_at(int(owner)) is None:
            shutil.rmtree(folder, ignore_errors=True)
