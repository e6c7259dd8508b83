"""The store of the network, opened over the fixture."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from nilometer.clickhouse.address import Address, Server
from nilometer.clickhouse.store import Store
from tests.clickhouse_server.running import ClickHouseServer


@contextmanager
def running(directory: Path, certificate: Path | None = None) -> Iterator[ClickHouseServer]:
    """A server for the length of the block, with a certificate over TLS."""
    server = ClickHouseServer(directory, certificate).start()
    try:
        yield server
    finally:
        server.stop()


def addressed(server: ClickHouseServer, *, timeout: float = 30) -> Server:
    """How Nilometer is told of it: its own user, and one who reads."""
    return Server(
        Address.parse(server.url()),
        reader=Address.parse(server.url("reader", "re@der")),
        timeout=timeout,
    )


@contextmanager
def network_store(directory: Path) -> Iterator[Store]:
    """An open store on a server of its own."""
    with running(directory) as server, closing(Store(addressed(server))) as store:
        store.open()
        yield store
