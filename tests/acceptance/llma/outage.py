"""Stops and starts the servers that a local deployment leans on.

How is for whoever runs the deployment to say, in commands; this module only runs them. It refuses
to where the deployment is not on this machine or is called production.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tests.acceptance.llma.configuration import Configuration, Misconfigured

SECONDS = 60

S3 = ("LLMA_STOP_S3_COMMAND", "LLMA_START_S3_COMMAND")
"""Ends the S3 server's process, and starts it again with what it had."""
S3_RIGHTS = ("LLMA_DENY_S3_COMMAND", "LLMA_ALLOW_S3_COMMAND")
"""Takes the deployment's rights to its bucket away, and gives them back."""
LOG = ("LLMA_STOP_LOG_COMMAND", "LLMA_START_LOG_COMMAND")
"""Makes the log refuse records (on Kafka: ends the brokers), and take them again."""
COMMANDS = (*S3, *S3_RIGHTS, *LOG)


class Outages:
    """The outages that the environment's commands can make."""

    def __init__(self, configuration: Configuration, environment: Mapping[str, str]) -> None:
        self._is_local = configuration.is_local
        self._commands = {name: environment[name] for name in COMMANDS if environment.get(name)}

    @contextmanager
    def of(self, pair: tuple[str, str]) -> Iterator[Outage]:
        """The outage, not begun; it is over when the block ends. Raises Misconfigured."""
        if not self._is_local:
            raise Misconfigured(
                "servers are stopped only where POSTHOG_HOST, CAPTURE_ENDPOINT and "
                "AWS_ENDPOINT_URL are on this machine and LLMA_TEST_MODE is local; deselect with "
                '-m "not outage"'
            )
        missing = [name for name in pair if name not in self._commands]
        if missing:
            raise Misconfigured(
                f"set {' and '.join(missing)} to the commands that do it here "
                '(docs/acceptance.md), or deselect these tests with -m "not outage"'
            )
        outage = Outage(*(self._commands[name] for name in pair))
        try:
            yield outage
        finally:
            outage.end()


class Outage:
    """One server that can be taken away."""

    def __init__(self, stop: str, start: str) -> None:
        self._stop = stop
        self._start = start
        self._lasts = False

    def begin(self) -> None:
        """Take the server away."""
        self._lasts = True
        _run(self._stop)

    def end(self) -> None:
        """Bring it back, if it is away."""
        if self._lasts:
            _run(self._start)
            self._lasts = False


def _run(command: str) -> None:
    done = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
