"""The sockets that a process listens on, opened before anything else is."""

from __future__ import annotations

import socket
from collections.abc import Generator
from contextlib import contextmanager

from nilometer.errors import ConfigurationError

BACKLOG = 2048


@contextmanager
def listening(host: str, port: int, *, remedy: str) -> Generator[socket.socket]:
    """A listening TCP socket, closed at the end; port 0 is any free one.

    Raises ConfigurationError; `remedy` says how another port is chosen.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigurationError(f"Cannot listen on {host}: {error.strerror}.") from None
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
            listener.listen(BACKLOG)
        except OSError as error:
            raise ConfigurationError(
                f"Cannot listen on {host} port {port}: {error.strerror}. {remedy}"
            ) from None
        yield listener


def port_of(listener: socket.socket) -> int:
    """The port that it listens on."""
    return listener.getsockname()[1]


def url_of(listener: socket.socket) -> str:
    """Where a client of this machine finds it."""
    host = listener.getsockname()[0]
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port_of(listener)}"
