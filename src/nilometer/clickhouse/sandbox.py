"""Where an untrusted query runs: a handle of its own that may only read, in an empty database.

A handle is opened for each query and closed after it (2 ms together), because `readonly` also
forbids to change the settings that differ by query.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import chdb

from nilometer.clickhouse.binding import bound
from nilometer.clickhouse.errors import StoreUnavailable, engine_error

# A database that never has a table: a name that slipped past every check leads nowhere.
EMPTY_DATABASE = "nothing"

# The niceness of the engine's threads while they run such a query: everything else goes first. The
# engine leaves it as it is where the process may not set it back (without CAP_SYS_NICE).
_NICENESS = 10

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
_SUBJECT = re.compile(
    r"(?:identifier|Identifier|function|functions|Column|alias|Substitution|parameter) "
    r"(?:'([^'\n]{1,200})'|`([^`\n]{1,200})`|(\w+))"
)


class EngineFault(Exception):
    """The engine did not run a statement. Of its text only what says where and what is kept: it
    can quote data.

    `code` and `name` are ClickHouse's. `position` is a byte offset (from 0) in a text that it could
    not parse. `subject` is a name that its sentence is about: it must be shown to nobody whose own
    text does not have it. `kind` is `Multi-statements` or empty.
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


class _Result(Protocol):
    def bytes(self) -> bytes: ...


class _Stream(Protocol):
    def __iter__(self) -> Iterator[_Result]: ...

    def close(self) -> None: ...


class _Connection(Protocol):
    def query(self, query: str, output: str = ..., /, *, params: dict[str, str]) -> _Result: ...

    def send_query(self, query: str, output: str, /, *, params: dict[str, str]) -> _Stream: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Sandbox:
    """An open handle. Used by one thread at a time."""

    _connection: _Connection

    def read(self, sql: str, output: str, parameters: Mapping[str, Any] | None = None) -> bytes:
        """A whole answer in a format of ClickHouse's. Raises EngineFault and StoreUnavailable."""
        with _translated():
            return self._connection.query(sql, output, params=_texts(parameters)).bytes()

    def stream(
        self, sql: str, output: str, parameters: Mapping[str, Any] | None = None
    ) -> Generator[bytes]:
        """An answer, one block at a time: each is a whole document of its format, with its header.

        Raises as `read` does, at any block. Close the generator to stop the query.
        """
        with _translated():
            stream = self._connection.send_query(sql, output, params=_texts(parameters))
            with contextlib.closing(stream):
                for block in stream:
                    yield block.bytes()


@contextlib.contextmanager
def sandbox(path: Path, settings: Mapping[str, object]) -> Generator[Sandbox]:
    """A handle with these settings, which nothing can change for as long as it is open.

    Raises StoreUnavailable when the engine cannot be opened.
    """
    with _translated():
        connection = cast("_Connection", cast("Any", chdb).connect(os.path.realpath(path)))
    with contextlib.closing(connection):
        with _translated():
            connection.query(f"USE {EMPTY_DATABASE}", params={})
            fixed = {**settings, "os_thread_priority": _NICENESS}
            values = ", ".join(f"{name} = {_literal(value)}" for name, value in fixed.items())
            connection.query(f"SET {values}, readonly = 1", params={})
        yield Sandbox(connection)


def _texts(parameters: Mapping[str, Any] | None) -> dict[str, str]:
    return {name: str(value) for name, value in (bound(parameters) or {}).items()}


def _literal(value: object) -> str:
    escaped = str(value).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


@contextlib.contextmanager
def _translated() -> Generator[None]:
    """Engine errors as ours, unchained from the one that has the engine's text."""
    try:
        yield
    except (chdb.ChdbError, RuntimeError, OSError) as error:
        translated = _fault(error)
    else:
        return
    raise translated from None


def _fault(error: Exception) -> EngineFault | StoreUnavailable:
    code, name = engine_error(error)
    if code == 0 or (code in _MOMENT_CODES and code not in _LIMIT_CODES):
        return StoreUnavailable(f"the store did not answer (error {code}, {name})")
    text = str(error)
    position = _POSITION.search(text)
    subject = _SUBJECT.search(text)
    return EngineFault(
        code,
        name,
        int(position[1]) - 1 if position else None,
        (subject[1] or subject[2] or subject[3]).replace("`", "") if subject else None,
        "Multi-statements" if "(Multi-statements" in text else "",
    )
