"""Clients that send as the capture contract says, whatever happens to the servers.

What is refused with 503, or not answered, is sent again to the other process: the same event, after
as long as `Retry-After` says, until it is acknowledged. Anything else that a client meets is a
defect, and so is a connection that breaks while its process runs.
"""

from __future__ import annotations

import hashlib
import json
import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import requests

from tests.running import KEY, wait_until
from tests.sending import generation

MODEL = "gpt-4o-mini"
_INPUT_PRICE, _OUTPUT_PRICE = Decimal("0.00000015"), Decimal("0.0000006")  # USD a token
_PATIENCE = 180.0
"""Seconds after which an event that is still not acknowledged is held to be refused for good."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What must be found of an event: its trace, its cost, and digests of its large values."""

    trace: str
    cost: Decimal
    blob: bytes | None = None
    note: bytes | None = None


@dataclass(frozen=True, slots=True)
class Broken:
    """A request that ended without an answer."""

    url: str
    began: float
    ended: float
    error: str


@dataclass(frozen=True, slots=True)
class _Request:
    events: dict[str, Sent]
    post: Callable[[str], requests.Response]


@dataclass
class Load:
    """`clients` threads that send to the processes at `urls`, each about `rate` requests a second.

    `sent` has the acknowledged events, `unexpected` what no client should meet.
    """

    urls: Sequence[str]
    clients: int = 6
    rate: float = 8
    sent: dict[str, Sent] = field(default_factory=dict)
    statuses: Counter[int] = field(default_factory=Counter)
    broken: list[Broken] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _never: threading.Event = field(default_factory=threading.Event)

    def start(self) -> Load:
        """Begin."""
        self._threads = [
            threading.Thread(target=self._client, args=(number,)) for number in range(self.clients)
        ]
        for thread in self._threads:
            thread.start()
        return self

    def more(self, count: int, seconds: float = 120) -> None:
        """Wait until so many more events are acknowledged."""
        enough = len(self.sent) + count
        wait_until(
            lambda: len(self.sent) >= enough or self.unexpected,
            seconds=seconds,
            what=f"{count} more acknowledgements",
        )
        assert not self.unexpected, self.unexpected[:5]

    def stop(self) -> None:
        """Return once every event that was sent is acknowledged, or given up as unexpected."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(_PATIENCE + 60)
            assert not thread.is_alive()

    def _client(self, number: int) -> None:
        count = 0
        while not self._stopping.is_set():
            request = _made(f"trace-{number}-{count // 20}")
            if self._delivered(request):
                self.sent |= request.events
            count += 1
            self._stopping.wait(random.uniform(0, 2 / self.rate))

    def _delivered(self, request: _Request) -> bool:
        """Whether it was acknowledged; if not, `unexpected` says why."""
        url = random.choice(self.urls)
        deadline = time.monotonic() + _PATIENCE
        for attempt in range(10_000):
            if time.monotonic() > deadline:
                break
            began = time.monotonic()
            try:
                answer = request.post(url)
            except requests.RequestException as error:
                ended = time.monotonic()
                self.broken.append(Broken(url, began, ended, type(error).__name__))
                wait = min(2, 0.05 * 2**attempt)
            else:
                self.statuses[answer.status_code] += 1
                if answer.status_code == 200:
                    return self._whole(answer, request)
                if answer.status_code != 503 or "Retry-After" not in answer.headers:
                    self.unexpected.append(f"{answer.status_code} {answer.text[:300]}")
                    return False
                wait = int(answer.headers["Retry-After"])
            self._never.wait(wait * random.uniform(0.5, 1))
            url = random.choice([each for each in self.urls if each != url] or self.urls)
        self.unexpected.append(f"not acknowledged within {_PATIENCE} s")
        return False

    def _whole(self, answer: requests.Response, request: _Request) -> bool:
        """Whether the 200 is one for every event of the request."""
        results = answer.json().get("results")
        if results is not None and {
            name for name, each in results.items() if each["result"] == "ok"
        } != set(request.events):
            self.unexpected.append(answer.text[:300])
            return False
        return True


def _made(trace: str) -> _Request:
    """Most are small; some have a blob, some a value that is packed, some are batches."""
    kind = random.choices(["small", "blob", "large", "batch"], [7, 1, 1, 1])[0]
    if kind == "batch":
        return _batch(trace)
    identifier = str(uuid.uuid4())
    properties, cost = _properties(identifier, trace)
    blob = random.randbytes(random.choice([100, 50_000])) if kind == "blob" else None
    note = random.randbytes(15_000).hex() if kind == "large" else None
    blobs = {"$blob": ("application/octet-stream", blob)} if blob else None
    parts = generation(identifier, blobs, **properties, **({"note": note} if note else {}))
    sent = Sent(trace, cost, digest(blob), digest(note.encode() if note else None))
    return _Request({identifier: sent}, lambda url: _post(f"{url}/i/v0/ai", files=parts))


def _batch(trace: str) -> _Request:
    """Several events in one record of the log."""
    events: list[dict[str, Any]] = []
    sent: dict[str, Sent] = {}
    now = datetime.now(UTC).isoformat()
    for _ in range(5):
        identifier = str(uuid.uuid4())
        properties, cost = _properties(identifier, trace)
        events.append(
            {
                "uuid": identifier,
                "event": "$ai_generation",
                "distinct_id": "user-1",
                "timestamp": now,
                "properties": {"$ai_model": MODEL, **properties},
            }
        )
        sent[identifier] = Sent(trace, cost)
    body = json.dumps({"created_at": now, "batch": events}).encode()
    return _Request(sent, lambda url: _post(f"{url}/i/v1/ai/events", data=body))


def _properties(identifier: str, trace: str) -> tuple[dict[str, Any], Decimal]:
    """Those of a call of its own, and its cost."""
    given, answered = random.randint(1, 5000), random.randint(1, 2000)
    properties = {
        "$ai_trace_id": trace,
        "$ai_span_id": identifier,
        "$ai_input_tokens": given,
        "$ai_output_tokens": answered,
    }
    return properties, given * _INPUT_PRICE + answered * _OUTPUT_PRICE


def _post(url: str, **body: Any) -> requests.Response:
    """By a connection of its own: one that is kept may be closed by the server at any time."""
    return requests.post(url, headers={"Authorization": f"Bearer {KEY}"}, timeout=60, **body)


def digest(value: bytes | None) -> bytes | None:
    """What a large value is known by."""
    return None if value is None else hashlib.sha256(value).digest()
