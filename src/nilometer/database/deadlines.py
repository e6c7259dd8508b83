"""Ends connections whose server accepts and never answers.

A stopped process or a cut network path leaves a client waiting in a read that no setting of the
server, and no keep-alive, ends. What is late is shut down from another thread; the waiting one then
gets the driver's own error.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from typing import Any, Protocol

_LOOK_EVERY = 0.5


class Driver(Protocol):
    """A connection of psycopg, as far as it matters here."""

    pgconn: Any


class Deadlines:
    """The deadlines of connections in use. Safe between threads; one thread of its own, from the
    first deadline on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._due: dict[int, tuple[float, Driver]] = {}
        self._watcher: threading.Thread | None = None

    def give(self, driver: Driver, seconds: float) -> None:
        """End this connection so many seconds from now, unless it is released before."""
        with self._lock:
            self._due[id(driver)] = time.monotonic() + seconds, driver
            if self._watcher is None:
                self._watcher = threading.Thread(
                    target=self._watch, name="database-deadlines", daemon=True
                )
                self._watcher.start()

    def release(self, driver: Driver) -> None:
        """It has no deadline any more."""
        with self._lock:
            self._due.pop(id(driver), None)

    def _watch(self) -> None:
        while True:
            time.sleep(_LOOK_EVERY)
            now = time.monotonic()
            # Under the lock, so that no connection is released, and its number another's, midway.
            with self._lock:
                for key, (due, driver) in list(self._due.items()):
                    if due <= now:
                        del self._due[key]
                        _shut(driver)


def closed_by_server(driver: Driver) -> bool:
    """Whether the server has ended a connection that nobody uses, without asking it: an idle one
    has nothing to read but the end."""
    try:
        with socket.socket(fileno=os.dup(driver.pgconn.socket)) as end:
            end.setblocking(False)
            end.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except Exception:  # noqa: BLE001  (the driver's own: it has closed the connection)
        return True
    return True


def _shut(driver: Driver) -> None:
    with (
        contextlib.suppress(Exception),  # closed already
        socket.socket(fileno=os.dup(driver.pgconn.socket)) as end,
    ):
        end.shutdown(socket.SHUT_RDWR)
