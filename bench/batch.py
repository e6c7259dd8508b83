"""PostHog events per second on `/batch`: acknowledged, and queryable.

100 generations of 2 kB a request, on 4 connections that send the next request when the last is
answered.

    python -m bench.batch 500
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.peers import nilometer
from bench.stored import CONNECTIONS, throughput
from tests.running import KEY

EVENTS = 100
_FILLER = "The river rose by a cubit and a span, and the clerk wrote it down. " * 20


def measure(requests: int) -> dict[str, Any]:
    """So many requests of 100 events."""
    with (
        tempfile.TemporaryDirectory() as directory,
        nilometer(Path(directory), "/batch", "application/json") as target,
    ):
        return {
            "events_per_request": EVENTS,
            "connections": CONNECTIONS,
            **throughput(target, batch, requests, EVENTS),
        }


def batch() -> bytes:
    """A batch as PostHog's SDKs send it, every event new."""
    sent = {"api_key": KEY, "batch": [event() for _ in range(EVENTS)]}
    return json.dumps(sent).encode()


def event() -> dict[str, Any]:
    """A generation of about 2 kB, five to a trace or so."""
    entered, cached = random.randint(100, 4000), random.randint(0, 100)
    return {
        "uuid": str(uuid.uuid4()),
        "event": "$ai_generation",
        "distinct_id": f"u{random.randint(1, 1000)}",
        "timestamp": datetime.fromtimestamp(time.time(), UTC).isoformat(),
        "properties": {
            "$lib": "posthog-python",
            "$ai_provider": "openai",
            "$ai_model": "gpt-4o-mini",
            "$ai_trace_id": f"trace-{time.time_ns() // 10_000_000}",
            "$ai_span_id": f"span-{random.getrandbits(48):012x}",
            "$ai_input_tokens": entered,
            "$ai_output_tokens": random.randint(10, 900),
            "$ai_cache_read_input_tokens": cached,
            "$ai_latency": random.random() * 4,
            "$ai_http_status": 200,
            "$ai_base_url": "https://api.example.com/v1",
            "$ai_input": [{"role": "user", "content": _FILLER}],
            "$ai_output_choices": [{"role": "assistant", "content": _FILLER[:300]}],
        },
    }


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1])), indent=1))
