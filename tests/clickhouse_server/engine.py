"""Runs a request on the engine, with a handle of its own or that of its session."""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import chdb

from nilometer.clickhouse.spool import spooled
from tests.clickhouse_server.faults import EngineRefused, Refused
from tests.clickhouse_server.requests import Asked
from tests.clickhouse_server.users import User

# `INSERT INTO t (a, b) FORMAT Native`, and data after it.
_INSERT = re.compile(
    rb"\s*(INSERT\s+INTO\s+[^;]*?)\s*(SETTINGS\s[^;]*?)?\s*\bFORMAT\s+(\w+)[ \t\r]*(?:\n|\Z)",
    re.IGNORECASE | re.DOTALL,
)
_VALUES = re.compile(rb"\bVALUES\b", re.IGNORECASE)
_ANSWERS = re.compile(
    r"(?:\s|--[^\n]*\n|/\*.*?\*/|\()*(?:SELECT|WITH|SHOW|DESC|DESCRIBE|EXPLAIN|EXISTS|CHECK)\b",
    re.IGNORECASE | re.DOTALL,
)
_FORMAT = re.compile(r"\bFORMAT\s+(\w+)\s*;?\s*\Z", re.IGNORECASE)
_LONGEST_SESSION = 60.0


@dataclass(frozen=True, slots=True)
class Answer:
    """The bytes of a result, the name of its format (empty where there is none to have), and how
    many rows were written."""

    body: bytes
    format: str
    written_rows: int


@dataclass(slots=True)
class _Session:
    handle: Any
    used_at: float
    lock: threading.Lock = field(default_factory=threading.Lock)


class Engine:
    """The engine over one directory. Thread-safe."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path = os.path.realpath(directory)
        # Without any handle open, the engine ends.
        self._kept = chdb.connect(self._path)
        self._sessions: dict[tuple[str, str], _Session] = {}
        self._lock = threading.Lock()
        self.timezone = bytes(self._kept.query("SELECT timezone()", "TSVRaw").bytes()).decode()
        self.timezone = self.timezone.strip()

    def close(self) -> None:
        """End the engine."""
        for session in self._sessions.values():
            session.handle.close()
        self._kept.close()

    def run(self, request: Asked, user: User) -> Answer:
        """The answer of a request. Raises Refused."""
        with self._handle(request, user) as handle:
            try:
                self._prepare(handle, request)
                insert = _INSERT.match(request.text)
                if insert and not _VALUES.search(insert[1]):
                    return self._insert(handle, insert, request.text[insert.end() :])
                return _read(handle, request)
            except (chdb.ChdbError, RuntimeError, UnicodeDecodeError) as error:
                raise EngineRefused(error) from None

    def _prepare(self, handle: Any, request: Asked) -> None:
        if database := request.values.get("database"):
            handle.query(f"USE `{database}`")
        # What a request sets is taken before its `readonly` holds, as a server does.
        values = [f"{name} = {_literal(value)}" for name, value in _settings(request).items()]
        if readonly := _readonly(request):
            values.append(f"readonly = {readonly}")
        if values:
            handle.query(f"SET {', '.join(values)}")

    def _insert(self, handle: Any, insert: re.Match[bytes], data: bytes) -> Answer:
        into, settings, name = (each.decode() for each in (insert[1], insert[2] or b"", insert[3]))
        if not data:
            return Answer(b"", "", 0)
        with spooled(data, self._directory) as path:
            result = handle.query(f"{into} FROM INFILE {_literal(path)} {settings} FORMAT {name}")
        return Answer(b"", "", result.rows_read())

    @contextlib.contextmanager
    def _handle(self, request: Asked, user: User) -> Generator[Any]:
        name = request.values.get("session_id")
        # `readonly` cannot be taken back, so what is read-only cannot see what is temporary.
        if not name or _readonly(request):
            with contextlib.closing(chdb.connect(self._path)) as handle:
                yield handle
            return
        session = self._session((user.name, name), request)
        if not session.lock.acquire(blocking=False):
            raise Refused(373, "SESSION_IS_LOCKED", f"Session {name} is locked by a concurrent one")
        try:
            yield session.handle
        finally:
            if settings := ", ".join(f"{each} = DEFAULT" for each in _settings(request)):
                session.handle.query(f"SET {settings}")
            session.used_at = time.monotonic()
            session.lock.release()

    def _session(self, key: tuple[str, str], request: Asked) -> _Session:
        with self._lock:
            now = time.monotonic()
            longest = float(request.values.get("session_timeout", _LONGEST_SESSION))
            for other, session in list(self._sessions.items()):
                if now - session.used_at > longest and not session.lock.locked():
                    self._sessions.pop(other).handle.close()
            if key not in self._sessions:
                if request.values.get("session_check") == "1":
                    raise Refused(372, "SESSION_NOT_FOUND", f"Session {key[1]} not found")
                self._sessions[key] = _Session(chdb.connect(self._path), now)
            return self._sessions[key]


def _read(handle: Any, request: Asked) -> Answer:
    text = request.text.decode()
    written = _FORMAT.search(text)
    format_name = written[1] if written else request.default_format or "TabSeparated"
    result = handle.query(text, format_name, params=request.parameters)
    body = bytes(result.bytes() or b"")
    if _ANSWERS.match(text):
        return Answer(body, format_name, 0)
    return Answer(body, "", result.rows_read() if text.lstrip()[:6].upper() == "INSERT" else 0)


def _settings(request: Asked) -> dict[str, str]:
    """The request's settings but `readonly`. Those of users (`SQL_…`), which the engine in process
    does not have, are known and without effect."""
    settings = {name: value for name, value in request.settings.items() if name != "readonly"}
    for name in settings:
        if not re.fullmatch(r"\w+", name):
            raise Refused(115, "UNKNOWN_SETTING", f"Unknown setting '{name}'")
    return {name: value for name, value in settings.items() if not name.startswith("SQL_")}


def _readonly(request: Asked) -> int:
    return int(request.values.get("readonly", 0)) or (2 if request.is_get else 0)


def _literal(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
