"""What `nilometer serve` prints when it is ready to capture."""

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence

from nilometer.access.accounts import IssuedKeys
from nilometer.listening import url_of
from nilometer.settings import CAPTURES, Settings


def announce(
    settings: Settings,
    listeners: Sequence[socket.socket],
    issued: IssuedKeys | None,
    *,
    place: str,
) -> None:
    """Print the first keys, if they were made now, and every address; `place` says where the data
    is."""
    lines: list[str] = []
    if issued is not None and issued.to_print:
        lines += [
            "Keys, shown this once (make others with `nilometer keys create`):",
            f"  project key   {issued.project_key.token}   captures into project 1",
            f"  personal key  {issued.personal_key.token}   every scope",
            "",
        ]
    everything, *capture = map(url_of, listeners)
    lines.append(f"Nilometer listens on {everything} with {place}")
    lines += [f"Nilometer listens on {url} for capture alone" for url in capture]
    if settings.otlp_grpc_port and settings.role in CAPTURES:
        lines.append(f"OTLP over gRPC is on port {settings.otlp_grpc_port}")
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()
