"""A request's body as a stream with limits on its size, its time and its decompressed size."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from nilometer.capture.asgi import Message, Receive
from nilometer.capture.decompression import INFLATED_BLOCK, Decoder
from nilometer.capture.patience import Patience
from nilometer.capture.refusals import BodyTimeout, ClientGone, DecodingFault, EmptyPayload, TooBig


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """`size` bounds the bytes on the wire and again, where `decoded` is None, the decompressed
    bytes. `idle` is the longest wait for the next chunk and `total` for the whole body, in
    seconds."""

    size: int
    idle: float
    total: float
    decoded: int | None = None


async def read_body(
    receive: Receive,
    consume: Callable[[bytes], None],
    *,
    decoder: Decoder | None,
    limits: BodyLimits,
    patience: Patience,
    declared: int | None,
    hold: Callable[[int], None],
) -> None:
    """Pass the decoded body to `consume`, block by block, as it arrives.

    `decoder` is for a compressed body. `declared` is the request's Content-Length, if any. `hold`
    is told how many bytes are in memory before more are kept, and may refuse. Raises EmptyPayload,
    TooBig, BodyTimeout, DecodingFault, ClientGone, and whatever `consume` and `hold` raise.
    """
    received = decoded = 0
    most = limits.size if limits.decoded is None else limits.decoded
    more = True
    deadline = asyncio.get_running_loop().time() + limits.total
    while more:
        message = await _next_message(receive, patience, limits.idle, deadline)
        chunk: bytes = message.get("body", b"")
        more = message.get("more_body", False)
        received += len(chunk)
        if received > limits.size:
            raise TooBig(f"request body exceeds maximum allowed size ({limits.size} bytes)")
        for block in decoder.decode(chunk) if decoder else (chunk,):
            decoded += len(block)
            if decoded > most:
                raise TooBig(f"decompressed body exceeds maximum size ({most} bytes)")
            hold(decoded)
            consume(block)
            if len(block) == INFLATED_BLOCK:
                await asyncio.sleep(0)  # a bomb must not hold up the others
    _check_length(received, declared)
    if decoder:
        decoder.finish()


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
