"""Rows of the store for tests that need many, written as the pipeline writes them."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from nilometer.clickhouse.store import Store

NOON = datetime(2025, 7, 1, 12, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
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
    columns = {name for row in rows for name in row}
    store.insert("events", [{name: row.get(name) for name in sorted(columns)} for row in rows])
    store.insert("event_ids", [{name: row[name] for name in _ID_COLUMNS} for row in rows])
