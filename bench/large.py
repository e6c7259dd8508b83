"""Memory over many requests of 10 MiB."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from bench.load import ai_request, closed_loop
from bench.queryable import Memory
from tests.running import KEY, running

SIZE = 10 * 1024 * 1024


def measure(requests: int) -> dict[str, Any]:
    """So many requests, each with one blob of 10 MiB, on 4 connections."""
    with tempfile.TemporaryDirectory() as directory, running(Path(directory)) as server:
        make = ai_request(KEY, blobs=(SIZE,))
        memory = Memory(server)
        memory.start()
        run = closed_loop(server.port, make, connections=4, seconds=1800, requests=requests)
        memory.stopping.set()
        memory.join(10)
        megabytes = run.statuses[200] * SIZE / 1e6
        return {
            "requests": requests,
            "acknowledged": run.summary(),
            "mb_per_second": round(megabytes / run.seconds),
            "memory": memory.summary(),
        }
