"""The floor that the real door is compared with: the bare sketch of DESIGN.md.

A raw ASGI application that reads a JSON body, appends it to a SQLite file in one process with the
server, and answers when the append is fsynced. One writer thread, group commit. Nothing else: no
authentication, validation, blobs, limits or segments, and nothing of `nilometer` is imported.

    python bench/floor.py --connections 1,32,256 --seconds 5

The load generator is the one that the real door is measured with (`bench.load`), in a second
process on the same machine, so that its cost is in the figures of both. Prints JSON: for each
number of connections requests per second, p50 and p99 in milliseconds, peak memory.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import multiprocessing
import resource
import sqlite3
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import uvicorn
import uvloop

if __name__ == "__main__":  # started as a file: the repository's root is not on the path
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.load import closed_loop

BODY_BYTES = 2000


class Appender:
    """Group commit into one SQLite file: WAL, synchronous=FULL."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=FULL")
        self._connection.execute("CREATE TABLE records (id INTEGER PRIMARY KEY, body BLOB)")
        self._changed = threading.Condition()
        self._queue: list[tuple[bytes, asyncio.Future[None]]] = []
        self._closed = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    async def append(self, body: bytes) -> None:
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        with self._changed:
            self._queue.append((body, future))
            self._changed.notify()
        await future

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()
        self._connection.close()

    def _run(self) -> None:
        while batch := self._take():
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany(
                "INSERT INTO records (body) VALUES (?)", [(body,) for body, _ in batch]
            )
            self._connection.execute("COMMIT")
            futures = [future for _, future in batch]
            futures[0].get_loop().call_soon_threadsafe(_release, futures)

    def _take(self) -> list[tuple[bytes, asyncio.Future[None]]]:
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closed)
            batch, self._queue = self._queue, []
            return batch


def _release(futures: list[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)


def application(appender: Appender) -> Any:
    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        chunks: list[bytes] = []
        while True:
            message = await receive()
            chunks.append(message.get("body", b""))
            if not message.get("more_body"):
                break
        await appender.append(b"".join(chunks))
        headers = [(b"content-type", b"application/json"), (b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"{}"})

    return app


def _serve(directory: str, control: Any) -> None:
    """Serve on an ephemeral loopback port, in this process, until told to stop."""
    appender = Appender(Path(directory) / "floor.sqlite")
    config = uvicorn.Config(
        application(appender),
        host="127.0.0.1",
        port=0,
        log_level="error",
        access_log=False,
        lifespan="off",
        http="httptools",
    )
    server = uvicorn.Server(config)
    socket = config.bind_socket()
    socket.listen(2048)
    thread = threading.Thread(target=lambda: uvloop.run(server.serve(sockets=[socket])))
    thread.start()
    control.send(socket.getsockname()[1])
    control.recv()
    server.should_exit = True
    thread.join()
    appender.close()
    control.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def make_request() -> Callable[[], bytes]:
    """Requests of one JSON event of `BODY_BYTES`."""
    numbers = itertools.count()

    def make() -> bytes:
        start = b'{"uuid":"%032x","event":"$ai_generation","properties":"' % next(numbers)
        body = start.ljust(BODY_BYTES - 2, b"x") + b'"}'
        return (
            b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        )

    return make


def measure(
    connections: Sequence[int], seconds: float, directory: Path | None = None
) -> list[dict[str, Any]]:
    """One fresh server and file for each number of connections, after a second of warm-up."""
    return [_measure_one(count, seconds, directory) for count in connections]


def _measure_one(connections: int, seconds: float, directory: Path | None) -> dict[str, Any]:
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(dir=directory) as place:
        control, theirs = spawn.Pipe()
        server = spawn.Process(target=_serve, args=(place, theirs), daemon=True)
        server.start()
        theirs.close()
        port = control.recv()
        make = make_request()
        closed_loop(port, make, connections=connections, seconds=1)
        run = closed_loop(port, make, connections=connections, seconds=seconds)
        control.send("stop")
        peak_kib = control.recv()
        server.join()
    if set(run.statuses) != {200}:
        raise RuntimeError(f"the floor answered {dict(run.statuses)}")
    return run.summary() | {"peak_mb": peak_kib >> 10}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--connections", default="1,32,256", help="comma-separated")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each run")
    parser.add_argument("--directory", type=Path, help="where the file goes; default: temporary")
    options = parser.parse_args()
    counts = [int(count) for count in options.connections.split(",")]
    print(json.dumps(measure(counts, options.seconds, options.directory), indent=2))


if __name__ == "__main__":
    main()
