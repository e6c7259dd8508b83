"""A request that asks for another protocol, read as the HTTP/1.1 request that it is as well.

A server ignores an Upgrade that it does not support (RFC 9110, section 7.8). The parser does not:
it takes what follows the head for the other protocol. So the head is parsed again without the
question, in a parser of its own, and then the body after it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

_ABOUT_THE_UPGRADE = (b"upgrade", b"http2-settings")


def head_without_upgrade(
    method: bytes, target: bytes, version: str, headers: Sequence[tuple[bytes, bytes]]
) -> bytes:
    """The head of a request, but for the fields that ask for an upgrade. Names are lower-case."""
    lines = [b"%s %s HTTP/%s\r\n" % (method, target, version.encode())]
    lines += [b"%s: %s\r\n" % header for header in _remaining(headers)]
    return b"".join((*lines, b"\r\n"))


def _remaining(headers: Sequence[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    for name, value in headers:
        if name == b"connection":
            options = [option.strip() for option in value.split(b",")]
            kept = [option for option in options if option.lower() not in _ABOUT_THE_UPGRADE]
            if kept:
                yield name, b", ".join(kept)
        elif name not in _ABOUT_THE_UPGRADE:
            yield name, value
