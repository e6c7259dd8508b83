"""What tracking costs the one who calls, and how much the process grows: with a store that is
healthy, slow and down, over the queue, spool and prices of production.

    python -m bench.tracker

The first figures are of the tracker alone. `client_…` is OpenAI's own client over a transport that
answers at once, wrapped, less the same client bare, in pairs of neighbours, of which either is the
first as often: the median is of their differences, which what else the machine does falls on alike.
Each scenario is a
process of its own, and the store the client library's own for a server, over such a transport.
Calls are paced, as calls to a provider are: between two of them their thread waits. Memory is the
growth of the resident set over the calls of the tracker alone, after a warm-up that loads the
prices.

Of calls that took longer than a millisecond, `slow_calls`, those are the tracker's own,
`slow_of_its_own`, in which the thread itself worked so long, or gave its processor up, as it does
to wait for a lock, a disk or another thread; from the others the machine took it. `late…` is how
much later than asked for the thread goes on after its pauses, as it does after a provider's answer:
the background's work is felt there. `late_untracked…` is the same before anything is tracked.
`stolen` is the part of the processors' time that the machine's host gave to others meanwhile: with
more than a hundredth of it lateness says nothing of the tracker, and is not judged.
"""

from __future__ import annotations

import gc
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import httpx2
import openai

from nilometer import ClientConfig, ClientManager, usage_context
from nilometer.domain.usage_metric import AIUsageMetric
from nilometer.sdk.sinks.http import HttpSink
from nilometer.sdk.sinks.port import Failed

SCENARIOS = ("healthy", "slow", "down")
WARM_UP = 2_000
CALLS = 10_000
PAIRS = 4_000
PAUSE = 0.0005
"""Seconds between two calls: up to 2,000 a second, of one thread."""

SLOW = 0.5
SLOW_CALL = 0.001
MOST_LATER = 5
"""Pauses of 10,000 that end more than `SLOW_CALL` late, more than without tracking: those of the
machine's own doing are in both."""
MOST_STOLEN = 0.01

MOST_MEDIAN, MOST_P99, MOST_GROWTH = 30e-6, 200e-6, 10_000_000
USAGE = {
    "prompt_tokens": 1200,
    "completion_tokens": 300,
    "total_tokens": 1500,
    "prompt_tokens_details": {"cached_tokens": 1024, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 128, "audio_tokens": 0},
}


class BenchSink(HttpSink):
    """A server that answers at once, late, or not at all. Prices are worked out here as well."""

    wants_prices = True

    def __init__(self, scenario: str) -> None:
        super().__init__("http://bench", "none", transport=httpx.MockTransport(self._answer))
        self.scenario = scenario
        self.stored = 0

    def store(self, metrics: Sequence[AIUsageMetric]) -> Sequence[Failed]:
        failed = super().store(metrics)
        self.stored += len(metrics) - len(failed)
        return failed

    def _answer(self, request: httpx.Request) -> httpx.Response:
        if self.scenario == "down":
            raise httpx.ConnectError("down", request=request)
        if self.scenario == "slow":
            time.sleep(SLOW)
        return httpx.Response(200, json={"status": "Ok"})


@dataclass(slots=True)
class Times:
    """Of calls, and of the pauses between them, in seconds."""

    calls: list[float] = field(default_factory=list[float])
    late: list[float] = field(default_factory=list[float])
    slow_of_its_own: int = 0

    def pause(self) -> None:
        begun = time.perf_counter()
        time.sleep(PAUSE)
        self.late.append(time.perf_counter() - begun - PAUSE)


def measure() -> dict[str, Any]:
    """Every scenario: median and p99 of a call's overhead in microseconds, growth in bytes."""
    return {scenario: _apart(scenario) for scenario in SCENARIOS}


def _apart(scenario: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "bench.tracker", scenario],
        check=True,
        capture_output=True,
        text=True,
        timeout=300,
    )
    return json.loads(done.stdout)


def run(
    scenario: str, calls: int = CALLS, warm_up: int = WARM_UP, pairs: int = PAIRS
) -> dict[str, Any]:
    """One scenario, in this process."""
    stolen_before, all_before = _processors()
    untracked = Times()
    for _ in range(calls):
        untracked.pause()
    with tempfile.TemporaryDirectory() as folder:
        sink = BenchSink(scenario)
        manager = ClientManager(ClientConfig(sink=sink, spool_dir=folder, exit_timeout=0))
        _record(manager, warm_up)
        _settle(manager, scenario)
        before = resident()
        times = _record(manager, calls)
        _settle(manager, scenario)
        grown = resident() - before
        client = _client_overhead(manager, pairs)
        _settle(manager, scenario)
        stats = manager.stats()
        assert stats.balanced
        assert not stats.dropped, stats
        manager.close(0)
    stolen, everything = _processors()
    return {
        "stolen": (stolen - stolen_before) / max(everything - all_before, 1),
        "calls": calls,
        "median_us": _at(times.calls, 0.5),
        "p99_us": _at(times.calls, 0.99),
        "worst_us": max(times.calls) * 1e6,
        "slow_calls": _slow(times.calls),
        "slow_of_its_own": times.slow_of_its_own,
        "late_p99_us": _at(times.late, 0.99),
        "late": _slow(times.late),
        "late_untracked_p99_us": _at(untracked.late, 0.99),
        "late_untracked": _slow(untracked.late),
        **client,
        "grown_bytes": grown,
        "submitted": stats.submitted,
        "stored": stats.stored,
        "spooled": stats.spooled,
    }


def _at(times: Sequence[float], part: float) -> float:
    return sorted(times)[int(len(times) * part)] * 1e6


def _slow(times: Sequence[float]) -> int:
    return sum(each > SLOW_CALL for each in times)


def _processors() -> tuple[int, int]:
    """What the host gave to others of the processors' time, and all of it, since the start."""
    ticks = list(map(int, Path("/proc/stat").read_text().split(None, 9)[1:9]))
    return ticks[7], sum(ticks)


def _waits() -> int:
    """How often this thread has given its processor up since its start."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw


def _record(manager: ClientManager, calls: int) -> Times:
    record, clock = manager.tracker.record, time.perf_counter
    times = Times()
    with usage_context(job_id="bench", tags=["bench"]):
        for number in range(calls):
            usage = {**USAGE, "prompt_tokens": 1100 + number % 100}
            waits, worked, begun = _waits(), time.thread_time(), clock()
            record(
                service="openai",
                model="gpt-4o-mini",
                operation="completion",
                usage=usage,
                convention="openai_chat",
                latency=0.8,
                response_id="chatcmpl-0123456789abcdef",
                http_status=200,
            )
            took, worked = clock() - begun, time.thread_time() - worked
            times.calls.append(took)
            times.slow_of_its_own += took > SLOW_CALL and (worked > SLOW_CALL or _waits() > waits)
            times.pause()
    return times


def _settle(manager: ClientManager, scenario: str) -> None:
    """Wait until everything is where the scenario lets it come to."""
    if scenario != "down":
        assert manager.flush(60), manager.stats()
    while manager.stats().waiting:
        time.sleep(0.01)
    gc.collect()


def _client_overhead(manager: ClientManager, pairs: int) -> dict[str, float]:
    """Microseconds that a wrapped client's call takes of its thread, more than a bare one's: of the
    thread's own time, because a call of a millisecond feels everything else on the machine."""
    answer = {
        "id": "chatcmpl-0123456789abcdef",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-4o-mini-2024-07-18",
        "choices": [
            {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "ok"}}
        ],
        "usage": USAGE,
    }
    headers = {"x-request-id": "req_0123456789abcdef", "openai-processing-ms": "800"}
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, json=answer, headers=headers))

    def client() -> openai.OpenAI:
        return openai.OpenAI(
            api_key="none", base_url="http://mock", http_client=httpx2.Client(transport=transport)
        )

    bare, wrapped = client(), manager.wrap(client())
    times: dict[bool, list[float]] = {False: [], True: []}
    for number in range(2 * pairs):
        tracked = number % 4 in (1, 2)  # bare, wrapped, wrapped, bare
        begun = time.thread_time()
        (wrapped if tracked else bare).chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": "hello"}]
        )
        times[tracked].append(time.thread_time() - begun)
        time.sleep(PAUSE)
    more = sorted(w - b for b, w in zip(times[False], times[True], strict=True))
    without, with_it = sorted(times[False]), sorted(times[True])
    return {
        "client_median_us": more[pairs // 2] * 1e6,
        "client_p99_us": (with_it[int(pairs * 0.99)] - without[int(pairs * 0.99)]) * 1e6,
    }


def resident() -> int:
    """The process' resident memory, bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def main() -> None:
    if len(sys.argv) > 1:
        print(json.dumps(run(sys.argv[1])))
        return
    wrong, measured = [], measure()
    for scenario, found in measured.items():
        print(f"{scenario:8} {json.dumps({k: round(v, 3) for k, v in found.items()})}")
        if (
            max(found["median_us"], found["client_median_us"]) > MOST_MEDIAN * 1e6
            or max(found["p99_us"], found["client_p99_us"]) > MOST_P99 * 1e6
            or found["grown_bytes"] > MOST_GROWTH
            or found["slow_of_its_own"]
            or (
                found["stolen"] < MOST_STOLEN
                and found["late"] > found["late_untracked"] + MOST_LATER
            )
        ):
            wrong.append(scenario)
    if wrong:
        sys.exit(f"over the bounds: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
