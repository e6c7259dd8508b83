"""A request's body as a stream with limits on its size, its time and its decompressed size."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from nilometer.capture.asgi import Message, Receive
from nilometer.capture.patience import Patience
from nilometer.capture.refusals import BodyTimeout, ClientGone, DecodingFault, EmptyPayload, TooBig

INFLATED_BLOCK = 256 * 1024  # about half a millisecond of work between two turns of the loop
_MAX_GZIP_MEMBERS = 1024
_GZIP = 16 + zlib.MAX_WBITS


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """`size` bounds the bytes on the wire and again the decompressed bytes. `idle` is the longest
    wait for the next chunk and `total` for the whole body, in seconds."""

    size: int
    idle: float
    total: float


class Gunzip:
    """gzip (RFC 1952), of one or more members, never more than one block in memory."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(_GZIP)
        self._members = 1

    def decode(self, chunk: bytes) -> Iterator[bytes]:
        """Blocks of at most 256 KiB."""
        while chunk:
            if self._member.eof:
                self._next_member()
            block = self._inflate(chunk)
            chunk = self._member.unconsumed_tail or self._member.unused_data
            if block:
                yield block
        while block := self._inflate(b""):  # zlib may hold output back after taking all input
            yield block

    def finish(self) -> None:
        """Refuse a stream that was cut."""
        if not self._member.eof:
            raise _gzip_fault("the compressed data is truncated")

    def _inflate(self, data: bytes) -> bytes:
        if self._member.eof:
            return b""
        try:
            return self._member.decompress(data, INFLATED_BLOCK)
        except zlib.error as error:
            raise _gzip_fault(str(error)) from None

    def _next_member(self) -> None:
        self._members += 1
        if self._members > _MAX_GZIP_MEMBERS:
            raise _gzip_fault(f"more than {_MAX_GZIP_MEMBERS} members")
        self._member = zlib.decompressobj(_GZIP)


async def read_body(
    receive: Receive,
    consume: Callable[[bytes], None],
    *,
    gunzip: Gunzip | None,
    limits: BodyLimits,
    patience: Patience,
    declared: int | None,
    hold: Callable[[int], None],
) -> None:
    """Pass the decoded body to `consume`, block by block, as it arrives.

    `gunzip` is for a compressed body. `declared` is the request's Content-Length, if any. `hold`
    is told how many bytes are in memory before more are kept, and may refuse. Raises EmptyPayload,
    TooBig, BodyTimeout, DecodingFault, ClientGone, and whatever `consume` and `hold` raise.
    """
    received = decoded = 0
    more = True
    deadline = asyncio.get_running_loop().time() + limits.total
    while more:
        message = await _next_message(receive, patience, limits.idle, deadline)
        chunk: bytes = message.get("body", b"")
        more = message.get("more_body", False)
        received += len(chunk)
        if received > limits.size:
            raise TooBig(f"request body exceeds maximum allowed size ({limits.size} bytes)")
        for block in gunzip.decode(chunk) if gunzip else (chunk,):
            decoded += len(block)
            if decoded > limits.size:
                raise TooBig(f"decompressed body exceeds maximum size ({limits.size} bytes)")
            hold(decoded)
            consume(block)
            if len(block) == INFLATED_BLOCK:
                await asyncio.sleep(0)  # a bomb must not hold up the others
    _check_length(received, declared)
    if gunzip:
        gunzip.finish()


async def _next_message(
    receive: Receive, patience: Patience, idle: float, deadline: float
) -> Message:
    until = min(asyncio.get_running_loop().time() + idle, deadline)
    try:
        message = await patience.wait(receive, until)
    except TimeoutError:
        raise BodyTimeout from None
    if message["type"] != "http.request":
        raise ClientGone
    return message


def _check_length(received: int, declared: int | None) -> None:
    if declared is not None and received != declared:
        raise DecodingFault(
            f"the body has {received} bytes, its Content-Length says {declared}",
            code="invalid_length",
        )
    if received == 0:
        raise EmptyPayload


def _gzip_fault(reason: str) -> DecodingFault:
    return DecodingFault(f"Failed to decompress gzip body: {reason}", code="invalid_gzip")
