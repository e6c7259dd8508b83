"""The 20 examples of docs/sql.md over HTTP, with and without events arriving, and what they do to
acknowledgements.

A store of so many events is filled inside the engine (see `sql_rows`), a server started on it, and
the examples asked one after the other, round after round, for so many seconds: alone, then beside
1,000 events a second at the door. Before and after that, half as long each, the same events arrive
without queries. Three rounds are asked alone, and one beside, whatever they take.
"""

from __future__ import annotations

import itertools
import multiprocessing
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from bench.load import Result, ai_request, steady
from tests.running import KEY, Server, running

RATE = 1000
AIM_MS = 300
AIM_SHARE = 1.5
_LEAST_ROUNDS = 3
_PAGE = Path("docs/sql.md")
_EXAMPLES = re.compile(r"^([^\n]+):\n\n```sql\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_PATH = "/api/projects/1/query/"


@dataclass
class Answers:
    """What the rounds saw; seconds. `refused` are the titles of examples that had no answer."""

    taken: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    guard: list[float] = field(default_factory=list[float])
    refused: set[str] = field(default_factory=set[str])

    def summary(self) -> dict[str, Any]:
        """Milliseconds by example, and of the guard."""
        return {
            "examples": {title: _quantiles(values) for title, values in self.taken.items()},
            "guard": _quantiles(self.guard),
            "rounds": min(map(len, self.taken.values()), default=0),
            "refused": sorted(self.refused),
        }


def measure(sizes: Iterable[int], seconds: float) -> list[dict[str, Any]]:
    """Each size in a store of its own, deleted after it; `seconds` is of each of three parts."""
    return [_measure(size, seconds) for size in sizes]


def examples() -> dict[str, str]:
    """The examples of docs/sql.md by the sentence above each."""
    return dict(_EXAMPLES.findall(_PAGE.read_text(encoding="utf-8")))


def _measure(size: int, seconds: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        started = time.perf_counter()
        fill = [sys.executable, "-m", "bench.sql_rows", str(directory / "clickhouse"), str(size)]
        subprocess.run(fill, check=True)
        filled = time.perf_counter() - started
        stored = sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())
        with running(directory) as server:
            return {
                "events": size,
                "seconds": seconds,
                "rate": RATE,
                "fill_s": round(filled),
                "stored_mb": stored >> 20,
                **_parts(server, seconds),
                "peak_mb": server.resident_bytes(peak=True) >> 20,
            }


def _parts(server: Server, seconds: float) -> dict[str, Any]:
    _rounds(server, lambda rounds: rounds < 1)  # the first opens files and fills caches
    end = time.monotonic() + seconds
    alone = _rounds(server, lambda rounds: rounds < _LEAST_ROUNDS or time.monotonic() < end)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as generator:
        generator.submit(_arrive, server.port, 5).result()
        before = generator.submit(_arrive, server.port, seconds / 2).result()
        over = threading.Event()
        arriving = generator.submit(_arrive, server.port, seconds)
        arriving.add_done_callback(lambda _: over.set())
        beside = _rounds(server, lambda rounds: rounds < 1 or not over.is_set())
        busy = arriving.result()
        after = generator.submit(_arrive, server.port, seconds / 2).result()
    before.latencies += after.latencies
    quiet_ms, busy_ms = before.quantile(0.99), busy.quantile(0.99)
    return {
        "alone": alone.summary(),
        "beside": beside.summary(),
        "acknowledged_alone_p99_ms": round(quiet_ms, 1),
        "acknowledged_beside_p99_ms": round(busy_ms, 1),
        "share": round(busy_ms / quiet_ms, 2),
    }


def _arrive(port: int, seconds: float) -> Result:
    """Events at the door, in a process of its own; what their senders saw."""
    run = steady(port, ai_request(KEY, properties=1200), rate=RATE, seconds=seconds)
    if set(run.statuses) != {200}:
        raise RuntimeError(f"the door answered {dict(run.statuses)}")
    return run


def _rounds(server: Server, going: Callable[[int], bool]) -> Answers:
    """Rounds of all examples for as long as `going` says, which is told how many there were."""
    answers = Answers()
    with server.client() as client:
        for rounds in itertools.count():
            if not going(rounds):
                return answers
            for title, sql in examples().items():
                _ask(client, title, sql, answers)
    raise AssertionError("unreachable")


def _ask(client: httpx.Client, title: str, sql: str, answers: Answers) -> None:
    sent = time.perf_counter()
    answer = client.post(_PATH, json={"query": {"kind": "HogQLQuery", "query": sql}})
    answers.taken.setdefault(title, []).append(time.perf_counter() - sent)
    if answer.status_code != httpx.codes.OK:
        answers.refused.add(f"{title}: {answer.json().get('code')}")
        return
    (guard,) = (step["t"] for step in answer.json()["timings"] if step["k"] == "./guard")
    answers.guard.append(guard)


def _quantiles(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        f"p{share}_ms": round(ordered[min(len(ordered) - 1, len(ordered) * share // 100)] * 1e3, 1)
        for share in (50, 99)
    }
