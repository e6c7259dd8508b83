"""Records as the ai door appends them, and a log that keeps them in memory and is cut at will."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from nilometer.domain.ai_record import AiRecord, BlobReference
from nilometer.domain.posthog_record import PostHogEvent, PostHogRecord
from nilometer.log.envelope import Envelope
from nilometer.log.port import Lag, LogState, Position, Record
from nilometer.pipeline.mapping import Rows, Unmappable, map_record

ACCEPTED_AT = 1_751_367_600_123_456  # 2025-07-01T11:00:00.123456Z
RETENTION_DAYS = 30


def envelope(
    project_id: int,
    uuid: str,
    *,
    name: str = "$ai_generation",
    accepted_at: int = ACCEPTED_AT,
    blobs: Sequence[BlobReference] = (),
    event: dict[str, Any] | None = None,
    properties: dict[str, Any] | str | None = None,
) -> Envelope:
    """An accepted event. `properties` as a text keeps that text."""
    head = {"event": name, "distinct_id": "someone", "uuid": uuid} | (event or {})
    given = {"$ai_model": "gpt-4o"} if properties is None else properties
    text = given.encode() if isinstance(given, str) else orjson.dumps(given)
    record = AiRecord(orjson.dumps(head), text, tuple(blobs), "127.0.0.1", RETENTION_DAYS)
    return Envelope(project_id, uuid, "ai", 1, accepted_at, 1, record.encode())


def batch_envelope(
    project_id: int,
    record_uuid: str,
    events: Sequence[tuple[str, dict[str, Any] | str]],
    *,
    accepted_at: int = ACCEPTED_AT,
    **record: Any,
) -> Envelope:
    """An accepted batch of events, each its uuid and its object. One as a text keeps that text."""
    texts = [
        PostHogEvent(uuid, event.encode() if isinstance(event, str) else orjson.dumps(event))
        for uuid, event in events
    ]
    known = {"protocol": "v0", "sent_at": None, "ip": "192.0.2.1", "retention_days": RETENTION_DAYS}
    payload = PostHogRecord(events=tuple(texts), **known | record).encode()
    return Envelope(project_id, record_uuid, "posthog", 1, accepted_at, 1, payload)


def mapped(one: Envelope) -> Rows:
    """The rows of a record of one event. Raises why it has none."""
    [rows] = map_record(one)
    if isinstance(rows, Unmappable):
        raise rows.error
    return rows


class MemoryLog:
    """The part of the log's port that a pipeline uses, over a list.

    `cuts` are the sizes of the batches that it hands out; a new consumer starts at the last commit.
    """

    def __init__(self, envelopes: Sequence[Envelope] = (), cuts: Sequence[int] = ()) -> None:
        self.records = [
            Record(Position(0, offset), each.headers(), each.payload)
            for offset, each in enumerate(envelopes)
        ]
        self.cuts = list(cuts)
        self.committed = 0
        self.open_consumers = 0

    def add(self, headers: bytes, payload: bytes) -> None:
        self.records.append(Record(Position(0, len(self.records)), headers, payload))

    def consumer(self, group: str) -> MemoryConsumer:
        self.open_consumers += 1
        return MemoryConsumer(self)

    def state(self) -> LogState:
        lag = Lag(len(self.records) - self.committed, None)
        return LogState(True, "", len(self.records), 0, {"store": lag})


class MemoryConsumer:
    def __init__(self, log: MemoryLog) -> None:
        self._log = log
        self._next = log.committed

    def poll(self, *, max_records: int, max_bytes: int, timeout: float) -> list[Record]:
        if timeout == 0:
            return []  # what comes while a batch lingers is the next batch here
        size = self._log.cuts.pop(0) if self._log.cuts else max_records
        found = self._log.records[self._next : self._next + min(size, max_records)]
        self._next += len(found)
        return found

    def commit(self, records: Sequence[Record]) -> None:
        self._log.committed = records[-1].position.offset + 1

    def rewind(self, since: int) -> None:
        raise NotImplementedError

    def close(self) -> None:
        self._log.open_consumers -= 1
