"""Durable acknowledgements per second on `/i/v0/ai`, whole process, beside the bare floor."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from bench import floor
from bench.load import ai_request, closed_loop
from tests.running import KEY, running

CONNECTIONS = (1, 32, 256)
SHAPES = {"one 2 kB event": (), "one event, two 8 kB blobs": (8192, 8192)}


def measure(seconds: float) -> dict[str, Any]:
    """For each shape and number of connections; the floor takes the 2 kB event only."""
    results: dict[str, Any] = {"floor": floor.measure(CONNECTIONS, seconds)}
    for shape, blobs in SHAPES.items():
        results[shape] = []
        for connections in CONNECTIONS:
            with tempfile.TemporaryDirectory() as directory, running(Path(directory)) as server:
                make = ai_request(KEY, blobs=blobs)
                closed_loop(server.port, make, connections=connections, seconds=1)
                run = closed_loop(server.port, make, connections=connections, seconds=seconds)
                results[shape].append(
                    run.summary() | {"peak_mb": server.resident_bytes(peak=True) >> 20}
                )
    for bare, real in zip(results["floor"], results["one 2 kB event"], strict=True):
        real["of_floor"] = round(real["per_second"] / bare["per_second"], 2)
    return results
