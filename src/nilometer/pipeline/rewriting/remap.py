"""Maps stored events again, by the converters of now, from what their rows keep.

An event's new row has the key and the version (`first_wins`) of the old one; of two such rows the
engine keeps the one that was inserted last (ReplacingMergeTree's rule). A call's has the next
revision. A row whose key is another now (a call named otherwise, an event's other time, no call any
more) leaves its old one behind, which is deleted once the new one is on disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson

from nilometer.blobs.store import BlobStore
from nilometer.clickhouse.store import Store
from nilometer.domain import clock
from nilometer.pipeline.call_cost import COST_COLUMNS, OverridesOf
from nilometer.pipeline.event_rows import rows_of
from nilometer.pipeline.packing import Packer
from nilometer.pipeline.rewriting.findings import Findings
from nilometer.pipeline.rewriting.jobs import Key, PageResult, Rewrite
from nilometer.pipeline.rewriting.reprice import FIRST_MAPPING, insertable
from nilometer.pipeline.rewriting.stored_events import canonical
from nilometer.pipeline.rewriting.unpacking import NotUnpacked, unpack
from nilometer.pipeline.rewriting.worker import Page

PAGE_ROWS = 500
PAGE_BYTES = 16 << 20
UNMAPPABLE = "(cannot be mapped)"
NOT_READABLE = "(its large values cannot be read)"

Row = dict[str, Any]

_WITHIN = """
FROM events FINAL
WHERE project_id = {project:Int64} AND timestamp >= {since:DateTime64(6, 'UTC')}
  AND timestamp < {until:DateTime64(6, 'UTC')}
"""
_AFTER = """
  AND timestamp >= {after:DateTime64(6, 'UTC')}
  AND (timestamp > {after:DateTime64(6, 'UTC')} OR uuid > {uuid_after:UUID})
"""
_UP_TO = """
  AND timestamp <= {last:DateTime64(6, 'UTC')}
  AND (timestamp < {last:DateTime64(6, 'UTC')} OR uuid <= {uuid_last:UUID})
"""
_PLACES = """
SELECT timestamp, uuid, length(properties) + length(source)
    + arraySum(JSONExtract(packed, 'Array(Tuple(size UInt64))').1)
"""
_ORDER = "ORDER BY project_id, timestamp, uuid LIMIT {rows:UInt32}"
_CALLS = """
SELECT * FROM calls FINAL
WHERE project_id = {project:Int64} AND event_uuid IN {uuids:Array(UUID)}
  AND accepted_at BETWEEN {first:DateTime64(6, 'UTC')} AND {last:DateTime64(6, 'UTC')}
"""
_SETTINGS = {"max_threads": 2}

# What no mapping changes, and what alone is no change.
_KEPT = (
    "project_id",
    "uuid",
    "accepted_at",
    "expires_at",
    "first_wins",
    "ip",
    "door",
    "blobs",
    "redacted",
)
_NO_CHANGE = frozenset((*_KEPT, "event_uuid", "mapping_version", "converter", "revision"))
_DELETED_AT_ONCE = 50


@dataclass(slots=True)
class _Work:
    """What a page writes: rows by table, then the keys that go."""

    events: list[Row] = field(default_factory=list[Row])
    calls: list[Row] = field(default_factory=list[Row])
    event_ids: list[Row] = field(default_factory=list[Row])
    left_events: list[tuple[datetime, UUID]] = field(default_factory=list[tuple[datetime, UUID]])
    left_calls: list[tuple[str, UUID]] = field(default_factory=list[tuple[str, UUID]])


class Remap:
    """The pass. `overrides_of` gives the price overrides of a project."""

    def __init__(
        self,
        store: Store,
        overrides_of: OverridesOf,
        blobs: BlobStore,
        packer: Packer,
        page_rows: int = PAGE_ROWS,
    ) -> None:
        """`blobs` has what `packer` and the pipeline's keep of large values."""
        self._store = store
        self._overrides_of = overrides_of
        self._blobs = blobs
        self._packer = packer
        self._page_rows = page_rows

    def total(self, rewrite: Rewrite) -> int:
        """How many events there are."""
        [(count,)] = self._store.query(f"SELECT count() {_WITHIN}", _bounds(rewrite)).rows
        return count

    def page(self, rewrite: Rewrite, after: Key | None, until: Key | None) -> Page | None:
        """Some events, in the order of the table, mapped."""
        events = self._read(rewrite, after, until)
        if not events:
            return None
        calls = self._calls(rewrite.project_id, events)
        work, findings, changed, skipped = _Work(), Findings(), 0, 0
        last = events[-1]
        for event in unpack(events, self._blobs):
            if isinstance(event, NotUnpacked):
                skipped += 1
                findings.add(("events", NOT_READABLE), rows=1)
                continue
            stored = calls.get(event["uuid"], [])
            try:
                mapped = rows_of(canonical(event), self._overrides_of)
            except (ValueError, TypeError, KeyError):
                skipped += 1
                findings.add(("events", UNMAPPABLE), rows=1)
                continue
            call = None if mapped.call is None else orjson.loads(mapped.call)
            changed += _compare(event, stored, orjson.loads(mapped.event), call, work, findings)
        end = (clock.to_micros(last["timestamp"]), str(last["uuid"]))
        result = PageResult(
            end=end, seen=len(events), changed=changed, skipped=skipped, findings=findings
        )
        return Page(result, work)

    def write(self, rewrite: Rewrite, page: Page) -> None:
        """Write what changed, in the order in which the pipeline does; then delete what is left."""
        work: _Work = page.work
        self._store.insert("events", self._packer.rows(work.events))
        self._store.insert("calls", work.calls)
        self._store.insert("event_ids", work.event_ids)
        project = rewrite.project_id
        self._delete(
            "calls", "call_id = {a:String} AND event_uuid = {b:UUID}", project, work.left_calls
        )
        self._delete(
            *("events", "timestamp = {a:DateTime64(6, 'UTC')} AND uuid = {b:UUID}"),
            *(project, work.left_events),
        )

    def _read(self, rewrite: Rewrite, after: Key | None, until: Key | None) -> list[Row]:
        """The next events, as many as have `PAGE_BYTES` together; at least one."""
        within, parameters = _WITHIN, _bounds(rewrite) | {"rows": self._page_rows}
        if after is not None:
            within += _AFTER
            parameters |= {"after": clock.from_micros(after[0]), "uuid_after": UUID(after[1])}
        if until is not None:
            within += _UP_TO
            parameters |= {"last": clock.from_micros(until[0]), "uuid_last": UUID(until[1])}
        places = self._store.query(
            f"{_PLACES} {within} {_ORDER}", parameters, settings=_SETTINGS
        ).rows
        if not places:
            return []
        parameters["rows"] = _fitting([size for _, _, size in places])
        return self._store.query(
            f"SELECT * {within} {_ORDER}", parameters, settings=_SETTINGS
        ).dicts()

    def _calls(self, project_id: int, events: Sequence[Row]) -> Mapping[UUID, list[Row]]:
        accepted = [event["accepted_at"] for event in events]
        parameters = {
            "project": project_id,
            "uuids": [event["uuid"] for event in events],
            "first": min(accepted),
            "last": max(accepted),
        }
        found: dict[UUID, list[Row]] = {}
        for call in self._store.query(_CALLS, parameters, settings=_SETTINGS).dicts():
            found.setdefault(call["event_uuid"], []).append(call)
        return found

    def _delete(
        self, table: str, condition: str, project_id: int, keys: Sequence[tuple[Any, UUID]]
    ) -> None:
        """Delete rows by their whole keys; they are gone when it returns. All words are ours."""
        for start in range(0, len(keys), _DELETED_AT_ONCE):
            conditions: list[str] = []
            parameters: dict[str, Any] = {"project": project_id}
            for number, (first, uuid) in enumerate(keys[start : start + _DELETED_AT_ONCE]):
                numbered = condition.replace("{a:", f"{{a{number}:").replace("{b:", f"{{b{number}:")
                conditions.append(f"({numbered})")
                parameters |= {f"a{number}": first, f"b{number}": uuid}
            self._store.command(
                f"ALTER TABLE {table} DELETE WHERE project_id = {{project:Int64}} "
                f"AND ({' OR '.join(conditions)}) SETTINGS mutations_sync = 1",
                parameters,
            )


def _compare(
    event: Row, calls: Sequence[Row], mapped: Row, call: Row | None, work: _Work, findings: Findings
) -> bool:
    """Whether anything of an event or its call is another now; adds what has to be written."""
    mapped |= {name: event[name] for name in _KEPT}
    columns = _changed_columns(event, mapped)
    for column in columns:
        findings.add(("events", column), rows=1)
    if columns:
        work.events.append(insertable(mapped))
    if "timestamp" in columns:
        work.event_ids.append({name: mapped[name] for name in (*_KEPT[:5], "timestamp")})
        work.left_events.append((event["timestamp"], event["uuid"]))
    return _compare_call(calls, call, work, findings) or bool(columns)


def _compare_call(calls: Sequence[Row], call: Row | None, work: _Work, findings: Findings) -> bool:
    left = [each for each in calls if call is None or each["call_id"] != call["call_id"]]
    work.left_calls += [(each["call_id"], each["event_uuid"]) for each in left]
    if left:
        findings.add(("calls", "call_id"), rows=1)
    if call is None:
        return bool(left)
    before = max(calls, key=lambda each: (each not in left, each["revision"]), default=None)
    if before is None:
        findings.add(("calls", "call_id"), rows=1)
        work.calls.append(call)
        return True
    if _same_consumption(before, call):
        call = {name: value for name, value in call.items() if name not in COST_COLUMNS}
        call |= {name: before[name] for name in COST_COLUMNS}
    columns = _changed_columns(before, call)
    for column in columns:
        if column != "call_id":
            findings.add(("calls", column), rows=1)
    if columns:
        work.calls.append(insertable(call | {"revision": before["revision"] + 1}))
    return bool(columns or left)


def _same_consumption(before: Row, call: Row) -> bool:
    """Whether the call's price follows from the same as before: it is then the same."""
    return before["mapping_version"] >= FIRST_MAPPING and not any(
        column.startswith(("vector_", "usage_"))
        or column in ("provider", "model", "timestamp", "service_tier")
        for column in _changed_columns(before, call)
    )


def _changed_columns(stored: Row, mapped: Row) -> list[str]:
    return [
        name
        for name, value in stored.items()
        if name not in _NO_CHANGE and not _equal(value, mapped.get(name))
    ]


def _equal(stored: Any, mapped: Any) -> bool:
    """Whether a stored value is what a row's JSON says; what that leaves out is the default."""
    if mapped is None:
        return stored in (None, "", "{}", [])
    if isinstance(stored, Decimal):
        return stored == Decimal(str(mapped))
    if isinstance(stored, datetime):
        return stored == (
            mapped if isinstance(mapped, datetime) else datetime.fromisoformat(mapped)
        )
    return stored == (mapped if not isinstance(stored, UUID) else UUID(str(mapped)))


def _fitting(sizes: Iterable[int]) -> int:
    total, count = 0, 0
    for size in sizes:
        total += size
        if count and total > PAGE_BYTES:
            break
        count += 1
    return count


def _bounds(rewrite: Rewrite) -> Row:
    return {"project": rewrite.project_id, "since": rewrite.since, "until": rewrite.until}
