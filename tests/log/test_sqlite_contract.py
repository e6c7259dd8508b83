"""The port's contract, on the embedded log."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nilometer.log.sqlite import SqliteLog
from tests.log import logs
from tests.log.contract import LogContract, OpenLog


class TestSqliteLog(LogContract):
    @pytest.fixture
    def open_log(self, tmp_path: Path) -> Iterator[OpenLog]:
        opened: list[SqliteLog] = []

        def open_again() -> SqliteLog:
            opened.append(logs.open_log(tmp_path / "log"))
            return opened[-1]

        yield open_again
        for log in opened:
            log.close()


class TestSqliteLogOfTinySegments(LogContract):
    """The same with a new segment at every few commits."""

    @pytest.fixture
    def open_log(self, tmp_path: Path) -> Iterator[OpenLog]:
        opened: list[SqliteLog] = []

        def open_again() -> SqliteLog:
            opened.append(logs.open_log(tmp_path / "log", segment_bytes=40_000))
            return opened[-1]

        yield open_again
        for log in opened:
            log.close()
