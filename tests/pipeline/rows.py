"""What a project has in the store, as a reader sees it."""

from typing import Any

from nilometer.blobs.store import BlobStore
from nilometer.clickhouse.store import Store
from nilometer.pipeline.rewriting.unpacking import NotUnpacked, unpack

_KEYS = {"events": "uuid", "event_ids": "uuid", "calls": "call_id, event_uuid"}


def final(store: Store, table: str, project_id: int) -> list[dict[str, Any]]:
    """Every row of a project after duplicates collapsed, all columns but the project."""
    sql = (
        f"SELECT * EXCEPT (project_id) FROM {table} FINAL "
        f"WHERE project_id = {{project:Int64}} ORDER BY {_KEYS[table]}"
    )
    return store.query(sql, {"project": project_id}).dicts()


def everything(store: Store, project_id: int) -> dict[str, list[dict[str, Any]]]:
    return {table: final(store, table, project_id) for table in _KEYS}


def put_back(store: Store, project_id: int, blobs: BlobStore) -> dict[str, list[dict[str, Any]]]:
    """As `everything`, large values in their places."""
    found = everything(store, project_id)
    whole = unpack([row | {"project_id": project_id} for row in found["events"]], blobs)
    assert not [row for row in whole if isinstance(row, NotUnpacked)]
    return found | {"events": whole}


def uuids(store: Store, project_id: int) -> list[str]:
    """The stored events, each as often as a reader would count it; the tables must agree."""
    events = [str(row["uuid"]) for row in final(store, "events", project_id)]
    assert events == [str(row["uuid"]) for row in final(store, "event_ids", project_id)]
    return events
