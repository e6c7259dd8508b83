"""The other side of tools under load: an HTTP server in one thread that counts what it is asked and
what it has done by idempotency key, and fails as each request says of itself.

A request is `POST /keyed` or `POST /once` of `{"incident", "step", "fate", "mark"}`. `/keyed` does
a key once, and answers it with success again; `/once` does it as often as it is asked, and says on
`GET /once/KEY` whether it was done (200) or not (404). The fates:

- `ok`: done at once
- `later`: 503 for the first two requests of a key, then done
- `lost`: done, and the first answer never comes
- `down`: 503, always
- `refused`: 422, always
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import cast

import orjson
import uvloop

FAILURES_OF_LATER = 2
FOR_GOOD = frozenset({"down", "refused"})
"""The fates that no repetition changes."""

_PHRASES = {200: "OK", 404: "Not Found", 422: "Unprocessable Content", 503: "Service Unavailable"}
_ANSWERS = {
    status: (
        f"HTTP/1.1 {status} {phrase}\r\nContent-Type: application/json\r\n"
        "Content-Length: 2\r\n\r\n{}"
    ).encode()
    for status, phrase in _PHRASES.items()
}


@dataclass(repr=False)
class Counting:
    """What a server was asked and has done. `steps` are an incident's, in the order in which each
    was first done; `arrived` is when a mark was first asked for, by `time.perf_counter`."""

    port: int = 0
    asked: Counter[str] = field(default_factory=Counter[str])
    done: Counter[str] = field(default_factory=Counter[str])
    again: Counter[str] = field(default_factory=Counter[str])
    steps: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    keys: defaultdict[tuple[str, str], set[str]] = field(default_factory=lambda: defaultdict(set))
    arrived: dict[int, float] = field(default_factory=dict[int, float])

    def url(self, path: str) -> str:
        """Where a tool of this path is."""
        return f"http://127.0.0.1:{self.port}/{path}"

    def answer(self, method: bytes, path: bytes, key: str, body: bytes) -> int | None:
        """The status to answer; None for no answer."""
        if method == b"GET":
            return 200 if self.done[path.rpartition(b"/")[2].decode()] else 404
        told = orjson.loads(body)
        self.asked[key] += 1
        self.keys[told["incident"], told["step"]].add(key)
        if told["mark"] is not None:
            self.arrived.setdefault(told["mark"], time.perf_counter())
        if self.done[key] and path == b"/keyed":
            self.again[key] += 1
            return 200
        return self._done(key, told["incident"], told["step"], told["fate"])

    def _done(self, key: str, incident: str, step: str, fate: str) -> int | None:
        if fate == "refused":
            return 422
        if fate == "down" or (fate == "later" and self.asked[key] <= FAILURES_OF_LATER):
            return 503
        self.done[key] += 1
        if self.done[key] == 1:
            self.steps[incident].append(step)
        return None if fate == "lost" and self.asked[key] == 1 else 200


class _Connection(asyncio.Protocol):
    """One connection, which may bring many requests, one after the other."""

    def __init__(self, counting: Counting) -> None:
        self._counting = counting
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        first, *lines = head.split(b"\r\n")
        headers = {name.lower(): value for name, _, value in (x.partition(b": ") for x in lines)}
        length = int(headers.get(b"content-length", b"0"))
        if len(rest) < length:
            return
        self._buffer = rest[length:]
        method, path, _ = first.split(b" ")
        key = headers.get(b"idempotency-key", b"").decode()
        status = self._counting.answer(method, path, key, rest[:length])
        if status is None:
            self._transport.abort()
        else:
            self._transport.write(_ANSWERS[status])


@contextmanager
def counting() -> Iterator[Counting]:
    """Such a server, on a free port of loopback."""
    found = Counting()
    loop = uvloop.new_event_loop()
    made = loop.run_until_complete(
        loop.create_server(lambda: _Connection(found), "127.0.0.1", 0, backlog=1024)
    )
    found.port = made.sockets[0].getsockname()[1]
    thread = threading.Thread(target=loop.run_forever, name="counting")
    thread.start()
    try:
        yield found
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        made.close()
        loop.run_until_complete(made.wait_closed())
        loop.close()
