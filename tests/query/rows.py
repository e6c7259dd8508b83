"""Rows of the store for tests that need many, written as the pipeline writes them."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from nilometer.clickhouse.store import Store

NOON = datetime(2025, 7, 1, 12, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
_CALL_COLUMNS = (
    *("project_id", "timestamp", "accepted_at", "distinct_id", "mapping_version", "is_error"),
    *("trace_id", "session_id", "span_id", "model", "provider"),
)
_ID_COLUMNS = ("project_id", "uuid", "timestamp", "accepted_at", "expires_at", "first_wins")


def event_row(project_id: int, **columns: Any) -> dict[str, Any]:
    """One row of `events`; `at` is its time in microseconds after noon of 2025-07-01."""
    at = NOON + columns.pop("at", 0) * MICROSECOND
    return {
        "project_id": project_id,
        "uuid": str(uuid4()),
        "event": "$ai_generation",
        "distinct_id": "ada",
        "timestamp": at,
        "accepted_at": NOON,
        "expires_at": NOON + timedelta(days=30),
        "ip": "",
        "properties": "{}",
        "blobs": "[]",
        "is_error": False,
        "door": "ai",
        "mapping_version": 1,
        "first_wins": 1,
    } | columns


def insert(store: Store, rows: Sequence[dict[str, Any]]) -> None:
    """Insert events and their ids. Rows may differ in the columns that they name."""
    store.insert("events", aligned(rows))
    store.insert("event_ids", [{name: row[name] for name in _ID_COLUMNS} for row in rows])


def aligned(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with the columns of each, NULL where one has none."""
    columns = sorted({name for row in rows for name in row})
    return [{name: row.get(name) for name in columns} for row in rows]


def call_row(event: dict[str, Any], **columns: Any) -> dict[str, Any]:
    """The row of `calls` of an event, its call named by that event."""
    return {
        "call_id": event["uuid"],
        "identity": "event",
        "event_uuid": event["uuid"],
        "source_rank": 10,
        "revision": 1,
        "operation": "generation",
        **{name: event.get(name) for name in _CALL_COLUMNS},
    } | columns
