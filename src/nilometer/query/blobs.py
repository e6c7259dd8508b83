"""Which objects of the object storage the stored events name. For the sweeper."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, cast
from urllib.parse import urlsplit

import orjson

from nilometer.clickhouse.store import Store
from nilometer.query.reader import Condition, Reader, Select


class BlobReads:
    """Named reads of events' blob references, each within one project."""

    def __init__(self, store: Store) -> None:
        self._reader = Reader(store)

    def keys_named_by(self, project_id: int, event_ids: Collection[str]) -> set[str]:
        """The object keys that these events name; events that are not stored name none."""
        chosen = Condition("uuid IN {uuids:Array(UUID)}", {"uuids": list(event_ids)})
        known = self._reader.rows(project_id, Select("timestamp", "event_ids", [chosen]))
        if not known:
            return set()
        times = [row["timestamp"] for row in known]
        # The table is ordered by time: with the times it reads a few granules, without them all.
        between = Condition(
            "timestamp BETWEEN {first:DateTime64(6, 'UTC')} AND {last:DateTime64(6, 'UTC')}",
            {"first": min(times), "last": max(times)},
        )
        rows = self._reader.rows(project_id, Select("blobs", "events", [chosen, between]))
        return {key for row in rows for key in _keys(row["blobs"])}


def _keys(blobs: str) -> set[str]:
    references = cast("list[dict[str, Any]]", orjson.loads(blobs or b"[]"))
    return {urlsplit(str(reference["url"])).path.lstrip("/") for reference in references}
