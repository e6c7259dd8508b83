"""One HTTP request to an address that somebody gave, and its answer: the only way out of here.

The name is looked up once and judged (`reach`), and the connection goes to the address that was
judged. A redirect is not followed, the environment's proxies are not used, TLS is verified against
the name that was given, and time and size are bounded whatever the other side does.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import httpcore
import httpx

from nilometer.notifications.channels.limits import CONNECT_SECONDS
from nilometer.notifications.failures import PermanentFailure, TemporaryFailure
from nilometer.notifications.reach import LOOKUP_SECONDS, Place, Reach

_PORTS = {"http": 80, "https": 443}
_CHUNK = 65536


@dataclass(frozen=True, slots=True)
class Request:
    """What to send. The URL is one that `checked_url` let through; a body of None sends none."""

    method: str
    url: httpx.URL = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered: `headers` by their names in lower case; of `body` no more than was wanted.
    `whole` is False where there was more of it. All of it is a stranger's."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    whole: bool = True


class Unanswered(TemporaryFailure):
    """No answer came, or none that is HTTP. `sent` is whether anything of the request had been
    written by then: if so, it may have had its effect."""

    def __init__(self, detail: str, *, code: str, sent: bool) -> None:
        super().__init__(detail, code=code)
        self.sent = sent


def exchange(request: Request, reach: Reach, *, seconds: float, most: int) -> Answer:
    """Send it once and return what was answered, whatever its status; of its body the first `most`
    bytes. Blocks for at most so many seconds, with the lookup of the name.

    Raises Unanswered; PermanentFailure for an address that may not be reached; TemporaryFailure for
    a name that cannot be looked up. Nothing was sent then.
    """
    until = time.monotonic() + seconds
    places = places_of(request.url, reach, min(seconds, LOOKUP_SECONDS))
    line = _Line(places, until)
    try:
        with httpcore.ConnectionPool(_trusted(), network_backend=line) as pool:
            return _asked(pool, request, most)
    except httpcore.TimeoutException:
        raise Unanswered(
            "The receiver did not answer in time.", code="timeout", sent=line.sent
        ) from None
    except (httpcore.NetworkError, httpcore.ProtocolError) as error:
        raise _unanswered(error, line.sent) from None


def places_of(url: httpx.URL, reach: Reach, seconds: float = LOOKUP_SECONDS) -> list[Place]:
    """Where a URL leads to, now; found within so many seconds. Raises as `exchange` does."""
    places = reach.places(url.host, _port(url), seconds)
    if url.scheme == "http" and not all(place.named for place in places):
        raise PermanentFailure(
            "Without TLS nothing is sent but to networks that the operator named: give https.",
            code="not_encrypted",
        )
    return places


def _asked(pool: httpcore.ConnectionPool, request: Request, most: int) -> Answer:
    url = request.url
    target = httpcore.URL(
        scheme=url.raw_scheme, host=url.raw_host, port=_port(url), target=url.raw_path
    )
    headers: list[tuple[bytes | str, bytes | str]] = [("Host", url.netloc.decode())]
    headers += request.headers.items()
    with pool.stream(request.method, target, headers=headers, content=request.body) as answer:
        body, whole = _read(answer.iter_stream(), most)
        return Answer(answer.status, _decoded(answer.headers), body, whole)


def _read(chunks: Iterable[bytes], most: int) -> tuple[bytes, bool]:
    """The beginning of a body, and whether that is all of it."""
    body = bytearray()
    for chunk in chunks:
        body += chunk
        if len(body) > most:
            return bytes(body[:most]), False
    return bytes(body), True


def _decoded(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in headers}


def _port(url: httpx.URL) -> int:
    return url.port or _PORTS[url.scheme]


@cache
def _trusted() -> ssl.SSLContext:
    """Who is believed: certifi's authorities, or those of SSL_CERT_FILE and SSL_CERT_DIR."""
    return httpx.create_ssl_context()


def _unanswered(error: Exception, sent: bool) -> Unanswered:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return Unanswered(
                "The receiver's certificate cannot be verified.",
                code="certificate_refused",
                sent=sent,
            )
        cause = cause.__cause__ or cause.__context__
    told = "closed the connection" if sent else "cannot be reached"
    return Unanswered(
        f"The receiver {told} ({type(error).__name__}).",
        code="connection_lost" if sent else "unreachable",
        sent=sent,
    )


class _Line(httpcore.NetworkBackend):
    """Connects to the first of these places that takes a connection. All that is done on it ends
    at `until`, by the monotonic clock."""

    def __init__(self, places: Sequence[Place], until: float) -> None:
        self._places = places
        self._until = until
        self.sent = False

    def connect_tcp(
        self,
        host: str,  # noqa: ARG002  (it was looked up)
        port: int,
        timeout: float | None = None,  # noqa: ARG002
        local_address: str | None = None,  # noqa: ARG002
        socket_options: Iterable[Any] | None = None,  # noqa: ARG002
    ) -> httpcore.NetworkStream:
        """A connection; see `httpcore.NetworkBackend`."""
        for place in self._places[:-1]:
            try:
                return self._connected(place, port)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return self._connected(self._places[-1], port)

    def left(self, error: type[Exception]) -> float:
        """The seconds that are left; raises the error when there are none."""
        seconds = self._until - time.monotonic()
        if seconds <= 0:
            raise error
        return seconds

    def _connected(self, place: Place, port: int) -> httpcore.NetworkStream:
        seconds = min(CONNECT_SECONDS, self.left(httpcore.ConnectTimeout))
        family = socket.AF_INET6 if ":" in place.address else socket.AF_INET
        connection = socket.socket(family, socket.SOCK_STREAM)
        try:
            connection.settimeout(seconds)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.connect((place.address, port))
        except TimeoutError as error:
            connection.close()
            raise httpcore.ConnectTimeout from error
        except OSError as error:
            connection.close()
            raise httpcore.ConnectError from error
        return _Stream(self, connection)


class _Stream(httpcore.NetworkStream):
    """A connection of a `_Line`."""

    def __init__(self, line: _Line, connection: socket.socket) -> None:
        self._line = line
        self._connection = connection

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        """What has come; see `httpcore.NetworkStream`."""
        self._connection.settimeout(self._line.left(httpcore.ReadTimeout))
        try:
            return self._connection.recv(max_bytes)
        except TimeoutError as error:
            raise httpcore.ReadTimeout from error
        except OSError as error:
            raise httpcore.ReadError from error

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        """Send all of it."""
        rest = memoryview(buffer)
        while rest:
            self._connection.settimeout(self._line.left(httpcore.WriteTimeout))
            self._line.sent = True
            try:
                rest = rest[self._connection.send(rest[:_CHUNK]) :]
            except TimeoutError as error:
                raise httpcore.WriteTimeout from error
            except OSError as error:
                raise httpcore.WriteError from error

    def close(self) -> None:
        """End it."""
        self._connection.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002
    ) -> httpcore.NetworkStream:
        """The same connection under TLS."""
        seconds = min(CONNECT_SECONDS, self._line.left(httpcore.ConnectTimeout))
        try:
            self._connection.settimeout(seconds)
            secured = ssl_context.wrap_socket(self._connection, server_hostname=server_hostname)
        except TimeoutError as error:
            self.close()
            raise httpcore.ConnectTimeout from error
        except OSError as error:
            self.close()
            raise httpcore.ConnectError from error
        return _Stream(self._line, secured)

    def get_extra_info(self, info: str) -> Any:  # noqa: ARG002
        """Nothing: a connection is used once."""
        return None
