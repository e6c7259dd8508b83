"""Which objects of the object storage the stored events name. For the sweeper."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, cast
from urllib.parse import urlsplit
from uuid import UUID

import orjson

from nilometer.blobs.keys import ObjectName
from nilometer.clickhouse.store import Store
from nilometer.domain import clock
from nilometer.query.reader import Condition, Reader, Select, moment


class BlobReads:
    """Named reads of events' blob references, each within one project."""

    def __init__(self, store: Store) -> None:
        self._reader = Reader(store)

    def named_keys(self, project_id: int, names: Collection[ObjectName]) -> set[str]:
        """The keys that the stored events of these objects name; events that are not stored name
        none.

        An object's date is its events' acceptance, so the rows of those days are read and nothing
        else is relied on: not on `event_ids`, of which a loss of power may have taken a part.
        """
        packs = [name for name in names if name.is_pack]
        others = [name for name in names if not name.is_pack]
        return self._of_one_event(project_id, others) | self._packs(project_id, packs)

    def _of_one_event(self, project_id: int, names: Collection[ObjectName]) -> set[str]:
        if not names:
            return set()
        uuids = sorted({name.event_id for name in names})
        where = [
            *_accepted(names),
            Condition("uuid IN {uuids:Array(UUID)}", {"uuids": [UUID(uuid) for uuid in uuids]}),
        ]
        rows = self._reader.rows(project_id, Select("blobs", "events", where))
        return {key for row in rows for key in _keys(row["blobs"])}

    def _packs(self, project_id: int, names: Collection[ObjectName]) -> set[str]:
        """Any event of the day may name a pack. A row whose place another has taken names it, too:
        rows that were written twice may name two."""
        if not names:
            return set()
        files = sorted({name.file for name in names})
        where = [
            *_accepted(names),
            Condition("hasAny(packs, {files:Array(String)})", {"files": files}),
        ]
        columns = "DISTINCT arrayJoin(packs) AS file"
        rows = self._reader.rows(project_id, Select(columns, "events", where, every_copy=True))
        named = {row["file"] for row in rows}
        return {name.key for name in names if name.file in named}


def _accepted(names: Collection[ObjectName]) -> list[Condition]:
    """On the days of these objects."""
    dates = [name.day.date for name in names]
    return [
        moment("accepted_at >=", "from", _start(min(dates))),
        moment("accepted_at <", "until", _start(max(dates) + timedelta(days=1))),
    ]


def _start(day: date) -> int:
    return clock.to_micros(datetime.combine(day, time(), tzinfo=UTC))


def _keys(blobs: str) -> set[str]:
    references = cast("list[dict[str, Any]]", orjson.loads(blobs or b"[]"))
    return {urlsplit(str(reference["url"])).path.lstrip("/") for reference in references}
