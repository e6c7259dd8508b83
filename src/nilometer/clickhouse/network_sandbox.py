"""Untrusted queries on a server: each a request, as it is, by a user who may only read.

Nothing between here and the server may look into such a query, so it does not go through the
driver (which binds, formats and shortens). The request's settings hold before the query is read,
`readonly` among them, so that it can change none. Beyond that, the user's grants and row policies
hold (deploy/clickhouse/users.sql).
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlencode

from urllib3 import BaseHTTPResponse, PoolManager, Timeout

from nilometer.clickhouse.address import Address

_CONNECT_SECONDS = 5
_PIECE = 64 * 1024
_LONGEST_ERROR = 64 * 1024


class ServerError(Exception):
    """An answer that is an error: its text. It may quote data, so it is not to be shown."""


@dataclass(frozen=True, slots=True)
class Piece:
    """An answer, or a piece of one."""

    data: bytes

    def bytes(self) -> bytes:
        """It."""
        return self.data


class _Pieces:
    """An answer as it arrives. Each piece after the first begins with as many empty lines as its
    format has lines of header, so that all pieces can be treated alike."""

    def __init__(self, response: BaseHTTPResponse, output: str) -> None:
        self._response = response
        self._header = b"\n" * _header_lines(output)

    def __iter__(self) -> Iterator[Piece]:
        header = b""
        for data in self._response.stream(_PIECE):
            yield Piece(header + data)
            header = self._header

    def close(self) -> None:
        self._response.close()


@dataclass(frozen=True, slots=True)
class ReadOnly:
    """A `sandbox.Connection` to a server.

    An answer is whole on the server before its first byte leaves (`wait_end_of_query`), so that an
    error is a status and never the end of a file that looks complete.
    """

    pool: PoolManager
    address: Address
    database: str
    settings: Mapping[str, object]
    timeout: float

    def query(self, query: str, output: str = "TSV", /, *, params: dict[str, str]) -> Piece:
        """A whole answer."""
        with contextlib.closing(self._asked(query, output, params)) as response:
            return Piece(response.read())

    def send_query(self, query: str, output: str, /, *, params: dict[str, str]) -> _Pieces:
        """An answer in pieces."""
        return _Pieces(self._asked(query, output, params), output)

    def close(self) -> None:
        """Nothing is held between two requests."""

    def _asked(self, query: str, output: str, params: Mapping[str, str]) -> BaseHTTPResponse:
        scheme = "https" if self.address.secure else "http"
        url = {
            **self.settings,
            "database": self.database,
            "default_format": output,
            "wait_end_of_query": 1,
        }
        response = self.pool.request(
            "POST",
            f"{scheme}://{self.address.host}:{self.address.port}/?{urlencode(url)}",
            fields={"query": query, **{f"param_{name}": text for name, text in params.items()}},
            headers={"Authorization": f"Basic {self._credentials()}"},
            timeout=Timeout(connect=_CONNECT_SECONDS, read=self._patience()),
            retries=False,
            preload_content=False,
        )
        with _closed_on_error(response):
            if response.status != 200 or "X-ClickHouse-Exception-Code" in response.headers:
                raise ServerError(response.read(_LONGEST_ERROR).decode(errors="replace"))
        return response

    def _credentials(self) -> str:
        return base64.b64encode(f"{self.address.user}:{self.address.password}".encode()).decode()

    def _patience(self) -> float:
        """The server sends nothing while it works, which its own limit ends."""
        return self.timeout + float(cast("int", self.settings.get("max_execution_time", 0)))


@contextlib.contextmanager
def _closed_on_error(response: BaseHTTPResponse) -> Generator[None]:
    try:
        yield
    except BaseException:
        response.close()
        raise


def _header_lines(output: str) -> int:
    if output.endswith("WithNamesAndTypes"):
        return 2
    return 1 if output.endswith("WithNames") else 0
