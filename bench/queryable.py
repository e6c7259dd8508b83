"""From sent to queryable at a steady rate, seen from outside, and the memory it takes meanwhile."""

from __future__ import annotations

import tempfile
import threading
import time
import uuid
from pathlib import Path
from typing import Any

from bench.load import ai_request, steady
from tests.running import KEY, Server, running
from tests.sending import generation, send

RATE = 1000


class Probe(threading.Thread):
    """Sends an event of its own, asks for it until it is there, and again."""

    def __init__(self, server: Server) -> None:
        super().__init__(daemon=True)
        self.server = server
        self.delays: list[float] = []
        self.stopping = threading.Event()

    def run(self) -> None:
        with self.server.client() as client:
            while not self.stopping.is_set():
                identifier = str(uuid.uuid4())
                sent = time.perf_counter()
                send(self.server.url, generation(identifier))
                while client.get(f"/api/projects/1/events/{identifier}/").status_code != 200:
                    time.sleep(0.01)
                self.delays.append(time.perf_counter() - sent)


class Memory(threading.Thread):
    """The server's resident memory, each second."""

    def __init__(self, server: Server) -> None:
        super().__init__(daemon=True)
        self.server = server
        self.samples: list[int] = []
        self.stopping = threading.Event()

    def run(self) -> None:
        while not self.stopping.wait(1):
            self.samples.append(self.server.resident_bytes() >> 20)

    def summary(self) -> dict[str, int]:
        """MiB after a tenth of the run, at the end, and at most."""
        early = self.samples[len(self.samples) // 10]
        return {"early_mb": early, "end_mb": self.samples[-1], "peak_mb": max(self.samples)}


def measure(seconds: float) -> dict[str, Any]:
    """1,000 events a second of 2 kB for so long."""
    with tempfile.TemporaryDirectory() as directory, running(Path(directory)) as server:
        make = ai_request(KEY)
        steady(server.port, make, rate=RATE, seconds=5)
        probe, memory = Probe(server), Memory(server)
        probe.start()
        memory.start()
        run = steady(server.port, make, rate=RATE, seconds=seconds)
        for thread in (probe, memory):
            thread.stopping.set()
            thread.join(30)
        delays = sorted(probe.delays)
        return {
            "seconds": seconds,
            "rate": RATE,
            "acknowledged": run.summary(),
            "sent_to_queryable": {
                "probes": len(delays),
                "p50_s": round(delays[len(delays) // 2], 3),
                "p99_s": round(delays[int(len(delays) * 0.99)], 3),
            },
            "memory": memory.summary(),
        }
