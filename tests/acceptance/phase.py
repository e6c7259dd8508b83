"""Passes the acceptance phases 1 to N, one after the other: `make phase 3`.

Without POSTHOG_HOST in the environment it starts a deployment on the ports of the plan's local
block (local.env) and configures the suite with that block, word for word.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from tests.acceptance.blocks import LOCAL, pasted
from tests.acceptance.deployment import Ports, deployed

PHASES = {
    1: "HTTP endpoint",
    2: "basic S3 uploads",
    3: "S3 infrastructure",
    4: "multipart file processing",
    5: "authorization",
    6: "operations, and what happens in outages",
    7: "compression",
    8: "schema validation",
}
_ADDRESSES = {
    "POSTHOG_HOST": "the API",
    "CAPTURE_ENDPOINT": "capture",
    "AWS_ENDPOINT_URL": "S3",
}


def main(arguments: list[str]) -> int:
    """Run the phases; the first that fails is the last that runs."""
    number = arguments[0] if arguments else ""
    if not number.isdigit() or int(number) not in PHASES:
        return _say(f"Which phase? 1 to {len(PHASES)}: make phase 3 passes the phases 1 to 3.")
    in_use = [] if "POSTHOG_HOST" in os.environ else list(taken(pasted(LOCAL.read_text())))
    if in_use:
        return _say(
            f"{' and '.join(in_use)}: something listens there already. The local block of "
            "docs/acceptance.md needs these ports. Stop it; or, to test that very deployment, "
            f"read the block into this shell first: . tests/acceptance/{LOCAL.name}"
        )
    with _environment() as environment:
        for phase in range(1, int(number) + 1):
            sys.stdout.write(f"\n== Phase {phase}: {PHASES[phase]}\n")
            sys.stdout.flush()
            code = _run(phase, environment, arguments[1:])
            if code:
                return _say(f"Phase {phase} does not pass.")
    sys.stdout.write("\nPhase 1 passes.\n" if number == "1" else f"\nPhases 1 to {number} pass.\n")
    return 0


@contextmanager
def _environment() -> Iterator[dict[str, str]]:
    """This process's environment, with what tells the suite where the deployment is."""
    if "POSTHOG_HOST" in os.environ:
        yield dict(os.environ)
        return
    block = pasted(LOCAL.read_text())
    api, capture, s3 = (urlsplit(block[name]).port or 0 for name in _ADDRESSES)
    with (
        tempfile.TemporaryDirectory(prefix="nilometer-phase-") as directory,
        deployed(
            Path(directory), ports=Ports(api, capture, s3), key=block["POSTHOG_API_KEY"]
        ) as running,
    ):
        commands = {name: value for name, value in running.items() if name.endswith("_COMMAND")}
        yield {**os.environ, **commands, **block}


def taken(block: dict[str, str]) -> Iterator[str]:
    """The ports of a block on this machine that somebody listens at, and what they are for."""
    for name, what in _ADDRESSES.items():
        port = urlsplit(block[name]).port
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port or 0)) == 0:
                yield f"port {port} ({what})"


def _run(phase: int, environment: dict[str, str], arguments: list[str]) -> int:
    folder = str(Path(__file__).parent)
    options = ["-q", "-p", "no:randomly", "-m", f"phase_{phase}"]
    command = [sys.executable, "-m", "pytest", folder, *options, *arguments]
    return subprocess.run(command, env=environment, check=False).returncode


def _say(sentence: str) -> int:
    sys.stderr.write(f"{sentence}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
