"""One system call for an answer's head and body, which uvicorn writes one after the other."""

from __future__ import annotations

import asyncio
from typing import Any

FLUSH_BYTES = 16 * 1024
"""A write that makes it this much is passed on at once: a stream feels the back pressure."""


class JoinedWrites:
    """A transport that passes what is written in one turn of the loop on together.

    Sending on loopback wakes the receiver, which made two sends a fifth of the loop's work for a
    small request. Everything but `write`, `write_eof` and `close` is the transport's own.
    """

    __slots__ = ("_loop", "_pending", "_size", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._pending: list[bytes] = []
        self._size = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Write soon: at the latest when the loop has its next turn."""
        if not self._pending:
            self._loop.call_soon(self._flush)
        self._pending.append(data)
        self._size += len(data)
        if self._size >= FLUSH_BYTES:
            self._flush()

    def write_eof(self) -> None:
        """Write what is pending, then nothing more."""
        self._flush()
        self._transport.write_eof()

    def close(self) -> None:
        """Write what is pending, then close."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if not self._pending:
            return
        data = self._pending[0] if len(self._pending) == 1 else b"".join(self._pending)
        self._pending.clear()
        self._size = 0
        if not self._transport.is_closing():
            self._transport.write(data)
