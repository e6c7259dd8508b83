"""Deployments to be looked at: whole ones, and servers that never answer."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from nilometer.doctor.examination import checks_of
from nilometer.doctor.finding import Finding
from nilometer.doctor.runner import run
from nilometer.settings import Settings

Findings = dict[str, Finding]
# Ports that this machine gives away: the default ones may be taken.
PORTS = {"port": 0, "otlp_grpc_port": 0}


def examined(*prefixes: str, seconds: float = 10, **settings: Any) -> Findings:
    """The findings by name; only those whose names begin so, where some are given, and the
    settings', which others need."""
    checks = checks_of(Settings(**{**PORTS, **settings}), seconds)
    wanted = [
        each for each in checks if not prefixes or each.name.startswith((*prefixes, "settings"))
    ]
    return {each.name: each for each in run(wanted, seconds=seconds)}


def outcomes(findings: Findings) -> dict[str, str]:
    """Name and outcome."""
    return {name: each.outcome.value for name, each in findings.items()}


@contextmanager
def silent_server() -> Iterator[str]:
    """An address whose connections the system accepts, and where nothing ever answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
