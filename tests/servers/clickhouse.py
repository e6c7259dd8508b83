"""The ClickHouse fixture among the servers: see `tests.clickhouse_server` for what it is not."""

from __future__ import annotations

import sys
from typing import ClassVar

import httpx

from tests.servers.server import ROOT, Server

USER = PASSWORD = "nilometer"
READER = READER_PASSWORD = "reader"


class ClickHouseServer(Server):
    """One user who may do everything, one who reads. Tests have engines of their own: this one is
    for a person who runs the distributed profile."""

    name: ClassVar[str] = "clickhouse"
    default_port: ClassVar[int] = 8123
    for_tests: ClassVar[bool] = False

    @property
    def address(self) -> str:
        """The URL, as Nilometer's settings name it."""
        return self.url()

    def url(self, user: str = USER, password: str = PASSWORD) -> str:
        return f"clickhouse://{user}:{password}@127.0.0.1:{self.port}/nilometer"

    def prepare(self) -> None:
        """The fixture makes its own data."""

    def launch(self) -> None:
        users = [f"{USER}:{PASSWORD}:all", f"{READER}:{READER_PASSWORD}:read"]
        self.process.launch(
            [
                *(sys.executable, "-m", "tests.clickhouse_server"),
                *("--data", self.folder / "data"),
                *("--port", str(self.port)),
                *(part for user in users for part in ("--user", user)),
            ],
            directory=ROOT,
        )

    def healthy(self) -> bool:
        try:
            url = f"http://127.0.0.1:{self.port}/ping"
            return httpx.get(url, timeout=5, verify=False).text == "Ok.\n"
        except httpx.HTTPError:
            return False
