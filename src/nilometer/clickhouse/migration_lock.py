"""One process at a time migrates a server: who creates the lock's table holds the lock.

ClickHouse has no locks to take, but of two processes that create one table one fails. On a cluster
the table's replica has one name on every host, so that Keeper lets one host have it. Migrations may
run again after a crash, so a lock that was taken over too early would do no harm.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import time
from collections.abc import Generator

from nilometer.clickhouse.address import DATABASE
from nilometer.clickhouse.engine import Reader
from nilometer.clickhouse.errors import StoreUnavailable, engine_error
from nilometer.clickhouse.layout import Layout

_TABLE = "migrations_lock"
_TAKEN = {57, 253}  # TABLE_ALREADY_EXISTS, REPLICA_ALREADY_EXISTS
_POLL_SECONDS = 0.2
# A migration that takes longer has died with its process, or is as good as dead.
_LEASE_SECONDS = 300
_PATIENCE_SECONDS = 60


@contextlib.contextmanager
def held(
    client: Reader,
    layout: Layout,
    *,
    lease: float = _LEASE_SECONDS,
    patience: float = _PATIENCE_SECONDS,
) -> Generator[None]:
    """The lock, for the length of the block. A lock older than `lease` seconds is taken over.

    Raises StoreUnavailable when another has it for longer than `patience`, and the driver's errors.
    """
    deadline = time.monotonic() + patience
    while not _taken(client, layout):
        if _age(client, layout) > lease:
            _drop(client, layout)
        elif time.monotonic() > deadline:
            raise StoreUnavailable("another process migrates the store")
        else:
            time.sleep(_POLL_SECONDS)
    try:
        yield
    finally:
        _drop(client, layout)


def _taken(client: Reader, layout: Layout) -> bool:
    engine = (
        f"ReplicatedMergeTree('/clickhouse/tables/{DATABASE}/{_TABLE}', 'holder') ORDER BY holder"
        if layout.cluster
        else "Memory"
    )
    statement = f"CREATE TABLE {DATABASE}.{_TABLE} (holder String) ENGINE = {engine}"
    holder = re.sub(r"[^\w.-]", "", socket.gethostname())
    try:
        client.command(f"{statement} COMMENT '{holder} {os.getpid()}'")  # for whoever looks
    except Exception as error:
        if engine_error(error)[0] not in _TAKEN:
            raise
        return False
    return True


def _age(client: Reader, layout: Layout) -> float:
    """Seconds since it was taken; 0 when nobody has it now."""
    rows = client.query(
        "SELECT max(dateDiff('second', metadata_modification_time, now())) "  # noqa: S608  (ours)
        f"FROM {layout.everywhere('system.tables')} "
        f"WHERE database = '{DATABASE}' AND name = '{_TABLE}'"
    ).result_rows
    return float(rows[0][0])


def _drop(client: Reader, layout: Layout) -> None:
    client.command(f"DROP TABLE IF EXISTS {DATABASE}.{_TABLE}{layout.on_cluster} SYNC")
