"""DynamoDB Local, Amazon's own: conditions, transactions, indexes and limits of the API, on SQLite.

It checks no signature, does not throttle, and answers every read consistently; `TimeToLive` deletes
within minutes."""

from __future__ import annotations

import shutil
from typing import ClassVar

import httpx

from tests.servers.process import ServerError
from tests.servers.server import BUILD, Server

_LIBRARIES = BUILD / "services-java-dynamodb"


class DynamoDBServer(Server):
    """One process; its data are in one file."""

    name: ClassVar[str] = "dynamodb"
    default_port: ClassVar[int] = 8001

    @property
    def address(self) -> str:
        """The endpoint's URL."""
        return f"http://localhost:{self.port}"

    def prepare(self) -> None:
        (self.folder / "data").mkdir(exist_ok=True)

    def launch(self) -> None:
        self.process.launch(_command(self.port, "-dbPath", str(self.folder / "data")))

    def healthy(self) -> bool:
        """An unsigned request is answered, with an error."""
        try:
            answer = httpx.get(self.address, timeout=2, trust_env=False, verify=False)
        except httpx.HTTPError:
            return False
        return answer.status_code == 400


class DynamoDBInMemory(DynamoDBServer):
    """One that forgets everything when it ends."""

    def launch(self) -> None:
        self.process.launch(_command(self.port, "-inMemory"))


def _command(port: int, *place: str) -> list[str]:
    java = shutil.which("java")
    if java is None or not any(_LIBRARIES.glob("DynamoDBLocal-*.jar")):
        raise ServerError(
            "DynamoDB Local is not installed here. Run: scripts/setup-services dynamodb"
        )
    return [
        java,
        "-Xmx512m",
        "-XX:+UseSerialGC",
        f"-Djava.library.path={_LIBRARIES}",
        "-cp",
        f"{_LIBRARIES}/*",
        "com.amazonaws.services.dynamodbv2.local.main.ServerRunner",
        *("-port", str(port)),
        *place,
        "-sharedDb",
        "-disableTelemetry",
    ]
