"""Logs, records and waiting, for the tests of this room."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nilometer.log.envelope import Envelope, decode
from nilometer.log.port import Consumer, Record
from nilometer.log.sqlite import SqliteLog
from tests import patience

MIB = 1024 * 1024


def open_log(directory: Path, **changes: Any) -> SqliteLog:
    """A log with small, calm defaults: nothing is refused, unlinked or rewound by itself."""
    settings: dict[str, Any] = {
        "segment_bytes": 64 * MIB,
        "max_bytes": 1024 * MIB,
        "keep_seconds": 86400,
        "disk_reserve": 0,
        "rewind_seconds": 3600,
    }
    return SqliteLog(directory, **(settings | changes))


def envelope(number: int, *, size: int = 10) -> Envelope:
    """A record that can be recognised by its number."""
    return Envelope(
        project_id=1,
        uuid=str(uuid.UUID(int=number)),
        door="ai",
        door_version=1,
        accepted_at=1_700_000_000_000_000 + number,
        config_version=1,
        payload=(b"%d " % number).ljust(size, b"x"),
    )


def numbers(records: list[Record]) -> list[int]:
    """Which records these are; decoding them checks that they are whole."""
    return [uuid.UUID(decode(each.headers, each.payload).uuid).int for each in records]


def poll(
    consumer: Consumer, *, max_records: int = 100, max_bytes: int = 10 * MIB, timeout: float = 0
) -> list[Record]:
    return consumer.poll(max_records=max_records, max_bytes=max_bytes, timeout=timeout)


def drain(consumer: Consumer, *, commit: bool = True) -> list[Record]:
    """Everything there is to read now."""
    drained: list[Record] = []
    while records := poll(consumer, max_records=500):
        drained += records
        if commit:
            consumer.commit(records)
    return drained


def read(consumer: Consumer, count: int, *, within: float = 60) -> list[Record]:
    """So many records, as they come: not from every log do they come with the first poll."""
    records: list[Record] = []
    deadline = time.monotonic() + within
    while len(records) < count:
        assert time.monotonic() < deadline, f"{len(records)} of {count} records came"
        records += poll(consumer, max_records=min(500, count - len(records)), timeout=0.5)
    return records


def read_all(consumer: Consumer, count: int, *, commit: bool = True) -> list[Record]:
    """Everything there is to read, which is so many records."""
    records = read(consumer, count)
    if commit:
        consumer.commit(records)
    assert poll(consumer, timeout=0.2) == []
    return records


def eventually(condition: Callable[[], bool], *, within: float = 20) -> None:
    """Wait until the condition holds; fails after `within` seconds."""
    assert patience.within(within, condition, interval=0.01), "the condition never became true"
