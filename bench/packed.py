"""Events of 40 kB on `/batch`: acknowledged, and queryable with their prompts in packs.

20 generations a request, on 4 connections that send the next request when the last is answered.

    python -m bench.packed 100
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench import batch
from bench.peers import nilometer
from bench.stored import CONNECTIONS, throughput
from tests.running import KEY

EVENTS = 20
PROMPT_BYTES = 40_000
# Words in no order compress somewhat worse than prose: to 0.41 of their size, and prose to 0.31.
_WORDS = Path(__file__).parent.parent.joinpath("docs", "capture.md").read_text().split()


def measure(requests: int) -> dict[str, Any]:
    """So many requests of 20 events."""
    with (
        tempfile.TemporaryDirectory() as directory,
        nilometer(Path(directory), "/batch", "application/json") as target,
    ):
        return {
            "events_per_request": EVENTS,
            "event_bytes": PROMPT_BYTES,
            "connections": CONNECTIONS,
            **throughput(target, body, requests, EVENTS),
        }


def body() -> bytes:
    """A batch whose events have a prompt that no other has."""
    events = [batch.event() for _ in range(EVENTS)]
    for event in events:
        event["properties"]["$ai_input"] = [{"role": "user", "content": prompt()}]
    return json.dumps({"api_key": KEY, "batch": events}).encode()


def prompt() -> str:
    """Words in no order, 40 kB of them."""
    return " ".join(random.choices(_WORDS, k=PROMPT_BYTES // 5))[:PROMPT_BYTES]


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1])), indent=1))
