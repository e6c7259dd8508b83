"""A port that counts what reaches it, so that "not a byte was sent" can be seen."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Listener:
    """Accepts every connection, keeps what comes, and says nothing."""

    def __init__(self, socket_: socket.socket) -> None:
        self._socket = socket_
        self.url = f"http://127.0.0.1:{socket_.getsockname()[1]}"
        self.connections = 0
        self.received = b""
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(10)
                self.connections += 1
                self.received += connection.recv(65536)

    def close(self) -> None:
        """What was sent before has been counted when this returns."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(90)


@contextmanager
def listening() -> Iterator[Listener]:
    """A listener whose counts are final once the block has ended."""
    listener = Listener(socket.create_server(("127.0.0.1", 0)))
    try:
        yield listener
    finally:
        listener.close()
