"""A load generator: raw HTTP over asyncio, cheap enough that the server is what is measured.

Each connection sends the next request when the answer to the last has arrived (closed loop), or, at
a fixed rate, when its time has come (open loop; a late answer then counts from the due time).
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import uvloop

# Returns one whole HTTP request and may count on being called once a request.
MakeRequest = Callable[[], bytes]


@dataclass
class Result:
    """What one run saw; times in milliseconds."""

    connections: int
    requests: int = 0
    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)

    @property
    def per_second(self) -> float:
        return self.statuses[200] / self.seconds if self.seconds else 0.0

    def quantile(self, share: float) -> float:
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1e3 if ordered else 0.0

    def summary(self) -> dict[str, object]:
        return {
            "connections": self.connections,
            "per_second": round(self.per_second),
            "p50_ms": round(self.quantile(0.5), 2),
            "p99_ms": round(self.quantile(0.99), 2),
            "statuses": dict(self.statuses),
        }


class _Connection(asyncio.Protocol):
    """One keep-alive connection; a future a response, answered with its status."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._answer: asyncio.Future[int] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer and not self._answer.done():
            self._answer.set_exception(ConnectionError(str(exc or "closed by the server")))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._buffer[:end]).lower()
        _, _, after = head.partition(b"content-length:")
        length = int(after.split(b"\r\n", 1)[0])
        if len(self._buffer) < end + 4 + length:
            return
        del self._buffer[: end + 4 + length]
        if self._answer and not self._answer.done():
            self._answer.set_result(int(head[9:12]))

    def request(self, data: bytes) -> asyncio.Future[int]:
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(data)
        return self._answer

    def close(self) -> None:
        self._transport.close()


def closed_loop(
    port: int, make: MakeRequest, *, connections: int, seconds: float, requests: int | None = None
) -> Result:
    """As many requests as the server answers, for so long or so many."""
    return uvloop.run(_closed_loop(port, make, connections, seconds, requests))


async def _closed_loop(
    port: int, make: MakeRequest, connections: int, seconds: float, requests: int | None
) -> Result:
    result = Result(connections)
    tickets = iter(range(requests)) if requests else itertools.count()
    loop = asyncio.get_running_loop()
    start = time.perf_counter()
    deadline = start + seconds

    async def client() -> None:
        _, connection = await loop.create_connection(_Connection, "127.0.0.1", port)
        while time.perf_counter() < deadline and next(tickets, None) is not None:
            data = make()
            sent = time.perf_counter()
            result.statuses[await connection.request(data)] += 1
            result.latencies.append(time.perf_counter() - sent)
            result.requests += 1
        connection.close()

    await asyncio.gather(*(client() for _ in range(connections)))
    result.seconds = time.perf_counter() - start
    return result


def steady(
    port: int, make: MakeRequest, *, rate: float, seconds: float, connections: int = 32
) -> Result:
    """`rate` requests a second for so long, whether or not the server keeps up."""
    return uvloop.run(_steady(port, make, rate, seconds, connections))


async def _steady(
    port: int, make: MakeRequest, rate: float, seconds: float, connections: int
) -> Result:
    result = Result(connections)
    loop = asyncio.get_running_loop()
    start = time.perf_counter() + 0.1
    due_times = iter(start + number / rate for number in range(int(rate * seconds)))

    async def client() -> None:
        _, connection = await loop.create_connection(_Connection, "127.0.0.1", port)
        for due in due_times:
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            result.statuses[await connection.request(make())] += 1
            result.latencies.append(time.perf_counter() - due)
            result.requests += 1
        connection.close()

    await asyncio.gather(*(client() for _ in range(connections)))
    result.seconds = time.perf_counter() - start
    return result


def ai_request(key: str, *, properties: int = 2000, blobs: tuple[int, ...] = ()) -> MakeRequest:
    """Requests to `/i/v0/ai`: one generation of about `properties` bytes, and blobs of these sizes
    (random bytes, so that compression neither helps nor is tried). Each has a uuid of its own."""
    boundary = "bench-" + os.urandom(8).hex()
    run = os.urandom(4).hex()
    filler = ("The river rose by a cubit and a span, and the clerk wrote it down. " * 99)[
        : max(0, properties - 420)
    ]
    fields = (
        '{"$ai_model":"gpt-4o-mini","$ai_provider":"openai","$ai_trace_id":"bench-trace",'
        '"$ai_span_id":"span-1","$ai_input_tokens":412,"$ai_output_tokens":38,"$ai_latency":1.25,'
        '"$ai_input":[{"role":"user","content":"' + filler + '"}]}'
    )
    marker = "@@@@@@@@-0000-4000-8000-%%%%%%%%%%%%"
    event = f'{{"uuid":"{marker}","event":"$ai_generation","distinct_id":"bench"}}'
    parts = [("event", "application/json", event.encode())]
    parts.append(("event.properties", "application/json", fields.encode()))
    parts += [
        (f"event.properties.$ai_blob{number}", "application/octet-stream", os.urandom(size))
        for number, size in enumerate(blobs)
    ]
    body = b"".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n'
        f"Content-Type: {kind}\r\n\r\n".encode()
        + value
        + b"\r\n"
        for name, kind, value in parts
    )
    body += f"--{boundary}--\r\n".encode()
    head = (
        f"POST /i/v0/ai HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: multipart/form-data; boundary={boundary}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    before, after = (head.encode() + body).split(marker.encode())
    numbers = itertools.count()

    def make() -> bytes:
        return b"%s%s-0000-4000-8000-%012x%s" % (before, run.encode(), next(numbers), after)

    return make
