"""What a request says about where it came from: the client's address and the trace context."""

from __future__ import annotations

import ipaddress
import re

UNKNOWN_ADDRESS = "127.0.0.1"  # the contract's value for an unknown client (section 5)
_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
)
_MAX_FORWARDED = 4096


def client_address(
    peer: tuple[str, int] | None, forwarded: list[bytes], trusted_proxies: int
) -> str:
    """The IP address of the client.

    With no trusted proxy it is the peer's. With n, it is the n-th address from the right of
    `X-Forwarded-For`, which the outermost of our own proxies wrote; what stands further left is
    the client's own claim. A header with fewer addresses did not pass all of the proxies and is
    not believed. `127.0.0.1` when unknown.
    """
    if trusted_proxies and forwarded:
        addresses = b",".join(forwarded)[-_MAX_FORWARDED:].split(b",")
        if len(addresses) >= trusted_proxies:
            return _address(addresses[-trusted_proxies].decode("latin-1").strip())
    return peer[0] if peer and peer[0] else UNKNOWN_ADDRESS


def _address(text: str) -> str:
    """An IP address as proxies write it: bare, with a port, or in brackets."""
    bare = text[1 : text.find("]")] if text.startswith("[") else text
    if bare.count(":") == 1:
        bare = bare.partition(":")[0]
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        return UNKNOWN_ADDRESS


def trace_context(header: bytes | None) -> str | None:
    """A valid W3C `traceparent` value (version 00 layout), or None for anything else."""
    if header is None:
        return None
    text = header.decode("latin-1")
    return text if _TRACEPARENT.fullmatch(text) else None
