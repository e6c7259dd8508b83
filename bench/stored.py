"""Bodies sent by HTTP, and how long until a reader of the server sees what was in them.

Every wait has an end: a server that stops storing makes a poor figure and no hanging measurement.
"""

from __future__ import annotations

import http.client
import os
import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CONNECTIONS = 4
_LOOK_SECONDS = 0.25
"""Between two looks at what is stored: a look costs the server something too."""
_SEND_SECONDS = 120
_WAIT_SECONDS = 180
_QUIET_SECONDS = 20


@dataclass
class Target:
    """A running server. `stored` counts what its reader sees; `pid` leads its session."""

    port: int
    pid: int
    path: str
    headers: Mapping[str, str]
    stored: Callable[[], int]
    kill: Callable[[], None]
    restart: Callable[[], None]
    extra: dict[str, Any] = field(default_factory=dict[str, Any])


class Load:
    """Sends bodies that were made before the clock starts, each once, from 4 connections."""

    def __init__(self, target: Target, bodies: Sequence[bytes]) -> None:
        self._target = target
        self._bodies = iter(bodies)
        self._lock = threading.Lock()
        self.latencies: list[float] = []
        self.refused = 0

    def run(self) -> float:
        """Until all are answered or two minutes are over; returns the seconds it took."""
        started = time.perf_counter()
        self._deadline = started + _SEND_SECONDS
        threads = [threading.Thread(target=self._client) for _ in range(CONNECTIONS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return time.perf_counter() - started

    def _client(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._target.port, timeout=60)
        while time.perf_counter() < self._deadline:
            with self._lock:
                body = next(self._bodies, None)
            if body is None:
                break
            sent = time.perf_counter()
            try:
                connection.request("POST", self._target.path, body, dict(self._target.headers))
                answer = connection.getresponse()
                answer.read()
                status = answer.status
            except (OSError, http.client.HTTPException):  # too slow, or it hung up
                connection.close()
                status = 0
            with self._lock:
                if status == http.client.OK:
                    self.latencies.append(time.perf_counter() - sent)
                else:
                    self.refused += 1
        connection.close()


def throughput(
    target: Target, make: Callable[[], bytes], requests: int, each: int
) -> dict[str, Any]:
    """`requests` bodies of `each` items, after a few that warm the server up."""
    warm = Load(target, [make() for _ in range(2 * CONNECTIONS)])
    warm.run()
    before = settled(target, len(warm.latencies) * each)
    load = Load(target, [make() for _ in range(requests)])
    started = time.perf_counter()
    seconds = load.run()
    acknowledged = len(load.latencies) * each
    found = settled(target, before + acknowledged) - before
    waited = time.perf_counter() - started
    if found < acknowledged:
        waited -= min(_QUIET_SECONDS, waited)  # the last look in vain is no work of the server's
    latencies = statistics.quantiles(load.latencies, n=100) if len(load.latencies) > 1 else [0] * 99
    return {
        "acknowledged": acknowledged,
        "queryable": found,
        "refused_requests": load.refused,
        "acknowledged_per_second": round(acknowledged / seconds),
        "queryable_per_second": round(found / waited) if waited else 0,
        "p50_ms": round(latencies[49] * 1000, 1),
        "p99_ms": round(latencies[98] * 1000, 1),
        "memory_mb": resident_mb(target.pid),
    }


def kept(target: Target, make: Callable[[], bytes], requests: int, each: int) -> dict[str, int]:
    """How much of what was acknowledged just before a `kill -9` a reader sees after a restart."""
    before = target.stored()
    load = Load(target, [make() for _ in range(requests)])
    load.run()
    target.kill()
    target.restart()
    acknowledged = len(load.latencies) * each
    return {"acknowledged": acknowledged, "kept": settled(target, before + acknowledged) - before}


def settled(target: Target, wanted: int) -> int:
    """What is stored once that is all, or has not grown for 20 s, or three minutes are over."""
    seen, since = -1, time.monotonic()
    end = since + _WAIT_SECONDS
    while seen < wanted and time.monotonic() < min(since + _QUIET_SECONDS, end):
        now = target.stored()
        if now > seen:
            seen, since = now, time.monotonic()
        if seen < wanted:
            time.sleep(_LOOK_SECONDS)
    return seen


def resident_mb(leader: int) -> int:
    """The resident memory of all processes of a session, in MiB; pages that they share count for
    each."""
    return sum(
        int((process / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20
        for process in Path("/proc").iterdir()
        if process.name.isdecimal() and _session(int(process.name)) == leader
    )


def _session(process: int) -> int:
    try:
        return os.getsid(process)
    except ProcessLookupError:
        return 0
