"""Answers that are long: sent as they are made, until their client goes away or is too slow."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncGenerator, Coroutine, Generator, Mapping
from contextlib import AsyncExitStack, aclosing
from typing import Any, TypeVar

from fastapi import Response
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from nilometer.errors import NilometerError

Result = TypeVar("Result")

# A client that does not read leaves no more than about two of these in memory.
CHUNK = 64 * 1024
_log = logging.getLogger(__name__)


class Cut(ClientDisconnect):
    """The answer has begun and cannot be sent to its end: the connection must close, or what was
    sent would look whole."""


class Pieces:
    """A generator that one thread at a time may advance, or close."""

    def __init__(self, pieces: Generator[bytes]) -> None:
        self._pieces = pieces
        self._lock = threading.Lock()

    def next(self) -> bytes | None:
        """The next piece; None at the end."""
        with self._lock:
            return next(self._pieces, None)

    def close(self) -> None:
        """End the generator, once the piece under way is there."""
        with self._lock:
            self._pieces.close()


class Export(Response):
    """A file, sent piece by piece until `deadline`, a time of the event loop.

    `held` is closed when the sending ends, however it does: the file was sent, its client went
    away, did not read it in time, or the pieces failed.
    """

    def __init__(
        self,
        pieces: AsyncGenerator[bytes],
        held: AsyncExitStack,
        deadline: float,
        *,
        media_type: str,
        headers: Mapping[str, str],
    ) -> None:
        super().__init__(media_type=media_type, headers=headers)
        del self.headers["content-length"]
        self._pieces = pieces
        self._held = held
        self._deadline = deadline

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Send it. Raises ClientDisconnect, as Cut where it is the server that ends it."""
        async with self._held:
            try:
                async with asyncio.timeout_at(self._deadline):
                    await while_connected(receive, self._send(send))
            except TimeoutError:
                _log.warning("an export was cut: its time was over before its client had read it")
                raise Cut from None
            except NilometerError as error:
                _log.warning("an export was cut: %s", error.code)
                raise Cut from None

    async def _send(self, send: Send) -> None:
        start = {
            "type": "http.response.start",
            "status": self.status_code,
            "headers": self.raw_headers,
        }
        await send(start)
        async with aclosing(self._pieces) as pieces:
            async for piece in pieces:
                for begin in range(0, len(piece), CHUNK):
                    await send(_body(piece[begin : begin + CHUNK]))
        await send(_body(b"", more=False))


async def while_connected(receive: Receive, call: Coroutine[Any, Any, Result]) -> Result:
    """What the call returns or raises. Once its client has gone the call is cancelled, and
    ClientDisconnect raised. The request's body must have been read."""
    work = asyncio.create_task(call)
    gone = asyncio.create_task(_gone(receive))
    try:
        await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise ClientDisconnect
        return work.result()
    finally:
        work.cancel()
        gone.cancel()
        await asyncio.gather(work, gone, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _body(body: bytes, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": more}
