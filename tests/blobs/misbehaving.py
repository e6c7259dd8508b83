"""A server on loopback that answers one request a connection, each in a scripted way."""

import socket
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

Answer = Callable[[socket.socket], None]


def status(code: int, error: str = "") -> Answer:
    """A whole answer, with S3's XML when an error code is given."""

    def answer(connection: socket.socket) -> None:
        body = f"<Error><Code>{error}</Code><Message>m</Message></Error>".encode() if error else b""
        head = f'HTTP/1.1 {code} X\r\nETag: "e"\r\nConnection: close\r\n'
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)

    return answer


def cut_off(connection: socket.socket) -> None:
    """Half an answer, then the connection closes."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Le")


def reset(connection: socket.socket) -> None:
    """The connection is torn down at once (RST)."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class Server:
    """`requests` counts what has arrived; the last answer of the script is repeated."""

    def __init__(self, answers: Iterable[Answer], *, reads_bodies: bool) -> None:
        self._answers = list(answers)
        self._reads_bodies = reads_bodies
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._stopped = threading.Event()
        self.requests = 0
        self.arrived = threading.Event()
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def hang(self, connection: socket.socket) -> None:
        """No answer, until the server stops."""
        self._stopped.wait(30)

    def script(self, *answers: Answer) -> None:
        self._answers = list(answers)

    def stop(self) -> None:
        self._stopped.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                if not _read_request(connection, body=self._reads_bodies):
                    return
                number, self.requests = self.requests, self.requests + 1
                self.arrived.set()
                self._answers[min(number, len(self._answers) - 1)](connection)
            except OSError:
                return  # the client has gone, as it should after a time-out


def _read_request(connection: socket.socket, *, body: bool) -> bool:
    connection.settimeout(30)
    data = b""
    while b"\r\n\r\n" not in data:
        received = connection.recv(65536)
        if not received:
            return False
        data += received
    if not body:
        return True
    head, _, received = data.partition(b"\r\n\r\n")
    lengths = [
        int(line.partition(b":")[2])
        for line in head.lower().split(b"\r\n")
        if line.startswith(b"content-length:")
    ]
    missing = sum(lengths) - len(received)
    while missing > 0:
        missing -= len(connection.recv(65536)) or missing
    return True


@contextmanager
def serving(*answers: Answer, reads_bodies: bool = True) -> Iterator[Server]:
    server = Server(answers, reads_bodies=reads_bodies)
    try:
        yield server
    finally:
        server.stop()
