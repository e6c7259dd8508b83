"""This machine: open files and ports."""

from __future__ import annotations

import resource
from contextlib import suppress
from dataclasses import dataclass

import httpx

from nilometer.doctor.finding import Check, Verdict, failed, ok, together, warning
from nilometer.errors import ConfigurationError
from nilometer.listening import listening
from nilometer.settings import CAPTURES, Settings

# Beside the connections of clients: segments, parts of the store, connections to servers.
_OTHER_FILES = 1024
_PROBE_SECONDS = 2
# Where a client finds what listens on every address.
_REACHED_AT = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104


@dataclass(frozen=True, slots=True)
class _Port:
    """One that a process listens on. What answers so on the port `asked` is a Nilometer."""

    number: int
    setting: str
    asked: int
    path: str = "/"
    answer: str = "nilometer\n"


class Machine:
    """What a process needs of the machine that it runs on."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def checks(self) -> list[Check]:
        """The checks of this part."""
        return [Check("machine.files", self.files), Check("machine.ports", self.ports)]

    def files(self) -> Verdict:
        """The limit of open files. `serve` raises the soft limit to the hard one by itself."""
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        connections = self._settings.max_connections
        needed = connections + _OTHER_FILES
        if hard in (-1, resource.RLIM_INFINITY) or hard >= needed:
            return ok(f"A process may open {_count(hard)} files, and needs {needed:,} at most.")
        remedy = (
            f"Raise the hard limit of open files to {needed:,} (LimitNOFILE of systemd, ulimits of "
            "Docker), or lower NILOMETER_MAX_CONNECTIONS."
        )
        found = (
            f"A process may open {hard:,} files; {connections:,} connections and its own files "
            f"need {needed:,}."
        )
        return failed(found, remedy) if hard < connections else warning(found, remedy)

    def ports(self) -> Verdict:
        """The ports: free, or taken by a Nilometer."""
        ports = self._ports()
        verdicts = [self._port(port) for port in ports]
        named = ", ".join(str(port.number) for port in ports)
        if any(each.found for each in verdicts):
            return together(verdicts, f"A Nilometer listens on {named} of {self._settings.host}.")
        if not ports:
            return ok("A process listens on whatever port is free.")
        return ok(f"The ports {named} of {self._settings.host} are free.")

    def _ports(self) -> list[_Port]:
        settings = self._settings
        own = settings.port
        ports = [_Port(own, "--port or NILOMETER_PORT", own)]
        if settings.role in CAPTURES:
            alone = settings.capture_port or 0
            alive = ("/_liveness", '{"status":"ok"}')
            ports.append(_Port(alone, "NILOMETER_CAPTURE_PORT", alone, *alive))
            # gRPC cannot be asked so simply: it is ours when the port beside it is.
            ports.append(_Port(settings.otlp_grpc_port, "NILOMETER_OTLP_GRPC_PORT", own))
        return [port for port in ports if port.number]  # 0 is none, or any free one

    def _port(self, port: _Port) -> Verdict:
        try:
            with listening(self._settings.host, port.number, remedy=""):
                return ok("")
        except ConfigurationError as error:
            if self._is_ours(port):
                return ok("taken")
            return failed(
                error.detail.strip(), f"Stop what listens there, or choose with {port.setting}."
            )

    def _is_ours(self, port: _Port) -> bool:
        host = _REACHED_AT.get(self._settings.host, self._settings.host)
        url = httpx.URL(scheme="http", host=host, port=port.asked, path=port.path)
        with suppress(httpx.HTTPError), httpx.Client(trust_env=False) as client:
            return client.get(url, timeout=_PROBE_SECONDS).text == port.answer
        return False


def _count(limit: int) -> str:
    return "any number of" if limit in (-1, resource.RLIM_INFINITY) else f"{limit:,}"
