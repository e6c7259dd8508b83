"""Apache Kafka in KRaft mode: every node is broker and controller."""

from __future__ import annotations

import shutil
import socket
import struct
import subprocess
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar, Self

from tests.servers.process import ServerError
from tests.servers.server import BUILD, Server, free_port

_LIBRARIES = BUILD / "services-java"
_CLUSTER_ID = "bmlsb21ldGVyLXRlc3RzMQ"
_LOGGING = """<Configuration status="WARN">
  <Appenders>
    <Console name="out"><PatternLayout pattern="%d{ISO8601} %p %c{1}: %m%n"/></Console>
  </Appenders>
  <Loggers>
    <Root level="warn"><AppenderRef ref="out"/></Root>
    <Logger name="kafka.server.KafkaRaftServer" level="info"/>
  </Loggers>
</Configuration>
"""
# ApiVersions, version 0, correlation 1, no client name: the first request of every client.
_API_VERSIONS = struct.pack(">ihhih", 10, 18, 0, 1, -1)


def _has_ipv6() -> bool:
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            return False
    return True


class KafkaServer(Server):
    """One node. It listens on both loopback addresses, as `localhost` names both; `properties` add
    to those of the broker, or replace them."""

    name: ClassVar[str] = "kafka"
    default_port: ClassVar[int] = 9093

    def __init__(
        self,
        folder: Path,
        port: int | None = None,
        owner: int | None = None,
        properties: Mapping[str, str] | None = None,
        node: int = 1,
    ) -> None:
        super().__init__(folder, port, owner)
        self.node = node
        self.controller_port = self.port + 10_000 if port else free_port()
        # Of every node of its cluster.
        self.controllers = {node: self.controller_port}
        self._more = dict(properties or {})

    @property
    def address(self) -> str:
        """The bootstrap servers."""
        return f"localhost:{self.port}"

    def ports(self) -> list[int]:
        return [self.port, self.controller_port]

    def _properties(self) -> dict[str, str]:
        listeners = [f"PLAINTEXT://127.0.0.1:{self.port}"]
        if _has_ipv6():
            listeners.append(f"PLAINTEXT6://[::1]:{self.port}")
        names = [each.partition(":")[0] for each in listeners]
        return {
            "process.roles": "broker,controller",
            "node.id": str(self.node),
            "controller.quorum.voters": ",".join(
                f"{node}@127.0.0.1:{port}" for node, port in self.controllers.items()
            ),
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "listeners": ",".join([*listeners, f"CONTROLLER://127.0.0.1:{self.controller_port}"]),
            "advertised.listeners": ",".join(f"{name}://localhost:{self.port}" for name in names),
            "listener.security.protocol.map": ",".join(
                f"{name}:PLAINTEXT" for name in [*names, "CONTROLLER"]
            ),
            "log.dirs": str(self.folder / "data"),
            "default.replication.factor": "1",
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "4",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "auto.create.topics.enable": "false",
            # Tests may ask for sessions shorter than a production broker allows.
            "group.min.session.timeout.ms": "500",
            "group.initial.rebalance.delay.ms": "0",
            "log.index.size.max.bytes": "1048576",
            "log.segment.delete.delay.ms": "1000",
        } | self._more

    def prepare(self) -> None:
        lines = [f"{name}={value}\n" for name, value in self._properties().items()]
        (self.folder / "server.properties").write_text("".join(lines))
        (self.folder / "log4j2.xml").write_text(_LOGGING)
        if not (self.folder / "data" / "meta.properties").exists():
            self._format()

    def _java(self, heap: str, main: str, *arguments: str) -> list[str]:
        java = shutil.which("java")
        if java is None or not any(_LIBRARIES.glob("kafka_*.jar")):
            raise ServerError("Kafka is not installed here. Run: scripts/setup-services kafka")
        return [
            java,
            f"-Xmx{heap}",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            f"-Dlog4j2.configurationFile={self.folder / 'log4j2.xml'}",
            "-cp",
            f"{_LIBRARIES}/*",
            main,
            *arguments,
        ]

    def _format(self) -> None:
        """Make its empty data, through a folder beside so that a half-made one is not taken."""
        shutil.rmtree(self.folder / "data", ignore_errors=True)
        command = self._java("96m", "kafka.tools.StorageTool", "format", "-t", _CLUSTER_ID, "-c")
        done = subprocess.run(
            [*command, str(self.folder / "server.properties")],
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise ServerError(f"Kafka cannot make its data folder:\n{done.stdout}{done.stderr}")

    def launch(self) -> None:
        properties = str(self.folder / "server.properties")
        self.process.launch(self._java("384m", "kafka.Kafka", properties))

    def healthy(self) -> bool:
        """It answers a little before it is given partitions, so its log is asked too."""
        if self.running and not self.process.said("Kafka Server started"):
            return False
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
                connection.sendall(_API_VERSIONS)
                return len(connection.recv(16)) > 0
        except OSError:
            return False


class KafkaCluster:
    """Several nodes that keep copies of each other's records; `nodes[0].kill()` loses one."""

    def __init__(self, folder: Path, size: int = 3, owner: int | None = None) -> None:
        properties = {
            "default.replication.factor": str(size),
            "offsets.topic.replication.factor": str(size),
            # A dead node is found missing after three seconds, not nine.
            "broker.session.timeout.ms": "3000",
            "broker.heartbeat.interval.ms": "500",
            "replica.lag.time.max.ms": "3000",
        }
        self.nodes = [
            KafkaServer(folder / str(node), None, owner, properties, node)
            for node in range(1, size + 1)
        ]
        controllers = {each.node: each.controller_port for each in self.nodes}
        for each in self.nodes:
            each.controllers = controllers

    @property
    def address(self) -> str:
        """The bootstrap servers."""
        return ",".join(each.address for each in self.nodes)

    def start(self) -> Self:
        """Start those that do not run, all at once: the first needs a majority to answer."""
        with ThreadPoolExecutor(len(self.nodes)) as pool:
            list(pool.map(KafkaServer.start, self.nodes))
        return self

    def kill(self) -> None:
        for each in self.nodes:
            each.kill()
