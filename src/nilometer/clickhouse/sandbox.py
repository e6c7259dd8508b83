"""Where an untrusted query runs: a handle of its own that may only read, in an empty database.

Whoever opens one (`embedded`, `network`) fixes its settings; nothing can change them after that.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from nilometer.clickhouse.binding import bound
from nilometer.clickhouse.errors import (
    StoreUnavailable,
    engine_error,
    engine_text,
    what_failed,
)

# A database that never has a table: a name that slipped past every check leads nowhere.
EMPTY_DATABASE = "nothing"

# The machine is at fault, whatever was asked. Any other code is said to be the query's: an author
# must not be able to make the store look unwell.
_MOMENT_CODES = frozenset(
    {
        3,
        23,
        24,
        33,
        74,
        75,
        76,
        77,
        95,
        96,
        159,
        172,
        173,
        202,
        203,
        204,
        209,
        210,
        225,
        236,
        241,
        242,
        243,
        252,
        285,
        286,
        294,
        319,
        394,
        439,
        499,
        519,
        999,
        1000,
        1001,
        1002,
    }
)

# What a query's own limits end it with; the store itself is well.
_LIMIT_CODES = frozenset({158, 159, 241, 306, 307, 396})
_POSITION = re.compile(r"failed at position (\d+)")
# Errors of one code that have different cures: `EngineFault.kind`.
_KINDS = {
    "Multi-statements": re.compile(r"\(Multi-statements"),
    "Array of NULL": re.compile(r"DB::Exception: Nested type (?:Array|Map)\("),
    "Frame": re.compile(r"DB::Exception: The RANGE OFFSET frame"),
    "Variant": re.compile(r"DB::Exception: Illegal type Variant\("),
}
_SUBJECT = re.compile(
    r"(?:identifier|Identifier|function|functions|Column|alias|Substitution|parameter) "
    r"(?:'([^'\n]{1,200})'|`([^`\n]{1,200})`|(\w+))"
)


class EngineFault(Exception):
    """The engine did not run a statement. Of its text only what says where and what is kept: it
    can quote data.

    `code` and `name` are ClickHouse's. `position` is a byte offset (from 0) in a text that it could
    not parse. `subject` is a name that its sentence is about: it must be shown to nobody whose own
    text does not have it. `kind` is one of `_KINDS`, or empty.
    """

    def __init__(
        self, code: int, name: str, position: int | None, subject: str | None, kind: str
    ) -> None:
        super().__init__(f"engine error {code}, {name}")
        self.code = code
        self.name = name
        self.position = position
        self.subject = subject
        self.kind = kind


class Result(Protocol):
    """An answer, or a block of one."""

    def bytes(self) -> bytes:
        """It, in the format that was asked for."""
        ...


class Stream(Protocol):
    """The blocks of an answer."""

    def __iter__(self) -> Iterator[Result]:
        """Each begins with the lines that its format has first, if it has such."""
        ...

    def close(self) -> None:
        """Stop the query."""
        ...


class Connection(Protocol):
    """`chdb.state.sqlitelike.Connection`, and what is like it for a server."""

    def query(self, query: str, output: str = ..., /, *, params: dict[str, str]) -> Result:
        """A whole answer."""
        ...

    def send_query(self, query: str, output: str, /, *, params: dict[str, str]) -> Stream:
        """An answer in blocks."""
        ...

    def close(self) -> None:
        """Close the handle."""
        ...


@dataclass(frozen=True, slots=True)
class Sandbox:
    """An open handle. Used by one thread at a time."""

    _connection: Connection
    _faults: tuple[type[Exception], ...]

    def read(self, sql: str, output: str, parameters: Mapping[str, Any] | None = None) -> bytes:
        """A whole answer in a format of ClickHouse's. Raises EngineFault and StoreUnavailable."""
        with translated(self._faults):
            return self._connection.query(sql, output, params=_texts(parameters)).bytes()

    def stream(
        self, sql: str, output: str, parameters: Mapping[str, Any] | None = None
    ) -> Generator[bytes]:
        """An answer, one block at a time: each begins with the header of its format.

        Raises as `read` does, at any block. Close the generator to stop the query.
        """
        with translated(self._faults):
            stream = self._connection.send_query(sql, output, params=_texts(parameters))
            with contextlib.closing(stream):
                for block in stream:
                    yield block.bytes()


def _texts(parameters: Mapping[str, Any] | None) -> dict[str, str]:
    return {name: str(value) for name, value in (bound(parameters) or {}).items()}


@contextlib.contextmanager
def translated(faults: tuple[type[Exception], ...]) -> Generator[None]:
    """Engine errors as ours, unchained from the one that has the engine's text."""
    try:
        yield
    except faults as error:
        translated = _fault(error)
    else:
        return
    raise translated from None


def _fault(error: Exception) -> EngineFault | StoreUnavailable:
    code, name = engine_error(error)
    if code == 0 or (code in _MOMENT_CODES and code not in _LIMIT_CODES):
        return StoreUnavailable(f"the store did not answer ({what_failed(error)})")
    text = engine_text(error)
    position = _POSITION.search(text)
    subject = _SUBJECT.search(text)
    return EngineFault(
        code,
        name,
        int(position[1]) - 1 if position else None,
        (subject[1] or subject[2] or subject[3]).replace("`", "") if subject else None,
        next((kind for kind, pattern in _KINDS.items() if pattern.search(text)), ""),
    )
