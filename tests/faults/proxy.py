"""A proxy before a server, which hurts the connections that pass through it."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from urllib.parse import urlsplit

_CHUNK = 65536


class Fault(Enum):
    """What the proxy does with what arrives while it lasts."""

    NONE = "it passes everything on"
    REFUSE = "every connection is torn down at once"
    HANG = "connections are accepted, and nothing passes either way"
    HALF = "of what a client sends the first bytes pass, then the connection is torn down"
    UNANSWERED = "what a client sends passes whole; in place of the answer it is torn down"


class Proxy:
    """Listens on loopback for one server. A fault meets new connections and those that are open
    alike; `connections` counts those that came, `hurt` those that were cut."""

    def __init__(self, host: str, port: int, *, half: int = 4000) -> None:
        self._server = host, port
        self._half = half
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        self._fault = Fault.NONE
        self._only = b""
        self.hurt = 0
        self._passing = threading.Event()
        self._passing.set()
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @contextmanager
    def fault(self, fault: Fault, only: bytes = b"") -> Iterator[None]:
        """Hurt connections for the length of the block; an answer is lost `only` to requests that
        have these bytes."""
        self._only = only
        self._set(fault)
        try:
            yield
        finally:
            self._set(Fault.NONE)

    def close(self) -> None:
        """Tear everything down."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._set(Fault.REFUSE)
        for thread in self._threads:
            thread.join(90)

    def _set(self, fault: Fault) -> None:
        self._fault = fault
        if fault is Fault.HANG:
            self._passing.clear()
            return
        with self._lock:
            for each in self._open:
                _tear(each)
        self._passing.set()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        if self._fault is Fault.REFUSE:
            _tear(client)
            client.close()
            return
        self._passing.wait()
        with client, socket.create_connection(self._server) as server:
            pair = {client, server}
            with self._lock:
                self._open |= pair
            asked = threading.Event()
            back = threading.Thread(target=self._answers, args=(server, client, asked), daemon=True)
            back.start()
            self._requests(client, server, asked)
            back.join()
            with self._lock:
                self._open -= pair

    def _requests(
        self, client: socket.socket, server: socket.socket, asked: threading.Event
    ) -> None:
        passed = 0
        with suppress(OSError):
            while data := client.recv(_CHUNK):
                self._passing.wait()
                if self._only in data:
                    asked.set()
                passed += len(data)
                if self._fault is Fault.HALF and passed > self._half:
                    server.sendall(data[: len(data) - (passed - self._half)])
                    self.hurt += 1
                    break
                server.sendall(data)
        _tear(client)
        _tear(server)

    def _answers(
        self, server: socket.socket, client: socket.socket, asked: threading.Event
    ) -> None:
        with suppress(OSError):
            while data := server.recv(_CHUNK):
                self._passing.wait()
                if self._fault is Fault.UNANSWERED and asked.is_set():
                    self.hurt += 1
                    break
                client.sendall(data)
        _tear(server)
        _tear(client)


def before(url: str, **options: int) -> Proxy:
    """A proxy before the server of a URL."""
    parts = urlsplit(url)
    assert parts.hostname
    assert parts.port
    return Proxy(parts.hostname, parts.port, **options)


def _tear(connection: socket.socket) -> None:
    """End it with a reset, whoever waits on it."""
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR)
