"""Prices stored calls again, by the price book and the overrides of now.

A call's price follows from its own row, so nothing else is read, and a row with the next revision
is all that is written. The pipeline writes revision 1: whatever it delivers again loses against it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

from nilometer.clickhouse.store import Store
from nilometer.pipeline.call_cost import OverridesOf, cost_of_call
from nilometer.pipeline.rewriting.findings import Findings
from nilometer.pipeline.rewriting.jobs import Key, PageResult, Rewrite
from nilometer.pipeline.rewriting.worker import Page
from nilometer.pricing import Overrides

FIRST_MAPPING = 3
"""Rows of an earlier mapping do not have all that a price follows from: they are left alone."""

PAGE_ROWS = 1000

Row = dict[str, Any]

_WITHIN = """
FROM calls FINAL
WHERE project_id = {project:Int64} AND timestamp >= {since:DateTime64(6, 'UTC')}
  AND timestamp < {until:DateTime64(6, 'UTC')}
"""
_AFTER = """
  AND call_id >= {call_after:String}
  AND (call_id, event_uuid) > ({call_after:String}, {uuid_after:UUID})
"""
_UP_TO = """
  AND call_id <= {call_last:String}
  AND (call_id, event_uuid) <= ({call_last:String}, {uuid_last:UUID})
"""
_ORDER = "ORDER BY project_id, call_id, event_uuid LIMIT {rows:UInt32}"
_SETTINGS = {"max_threads": 2}


class Reprice:
    """The pass. `overrides_of` gives the price overrides of a project."""

    def __init__(self, store: Store, overrides_of: OverridesOf, page_rows: int = PAGE_ROWS) -> None:
        self._store = store
        self._overrides_of = overrides_of
        self._page_rows = page_rows

    def total(self, rewrite: Rewrite) -> int:
        """How many calls there are."""
        [(count,)] = self._store.query(f"SELECT count() {_WITHIN}", _bounds(rewrite)).rows
        return count

    def page(self, rewrite: Rewrite, after: Key | None, until: Key | None) -> Page | None:
        """Some calls, in the order of the table, priced."""
        found = self._read(rewrite, after, until)
        if not found:
            return None
        findings, changed, skipped = Findings(), list[Row](), 0
        overrides = self._overrides_of(rewrite.project_id)
        for row in found:
            if row["mapping_version"] < FIRST_MAPPING:
                skipped += 1
            elif (revised := revision_of(row, overrides)) is not None:
                changed.append(revised)
                findings.add((row["provider"], row["model"]), **_difference(row, revised))
        last = found[-1]
        result = PageResult(
            end=(last["call_id"], str(last["event_uuid"])),
            seen=len(found),
            changed=len(changed),
            skipped=skipped,
            findings=findings,
        )
        return Page(result, changed)

    def write(self, rewrite: Rewrite, page: Page) -> None:  # noqa: ARG002  (a Pass)
        """Write the revisions. One that is there already has today's price, and none is made."""
        self._store.insert("calls", [insertable(row) for row in page.work])

    def _read(self, rewrite: Rewrite, after: Key | None, until: Key | None) -> Sequence[Row]:
        sql, parameters = f"SELECT * {_WITHIN}", _bounds(rewrite) | {"rows": self._page_rows}
        if after is not None:
            sql += _AFTER
            parameters |= {"call_after": after[0], "uuid_after": UUID(after[1])}
        if until is not None:
            sql += _UP_TO
            parameters |= {"call_last": until[0], "uuid_last": UUID(until[1])}
        return self._store.query(sql + _ORDER, parameters, settings=_SETTINGS).dicts()


def revision_of(row: Row, overrides: Overrides) -> Row | None:
    """The call as it is priced now; None when that changes nothing.

    The edition of the price book alone is no change: the older one says the same of this call.
    """
    cost = cost_of_call(row, overrides)
    if all(row[name] == value for name, value in cost.items() if name != "price_version"):
        return None
    return row | cost | {"revision": row["revision"] + 1}


def insertable(row: Mapping[str, Any]) -> Row:
    """A row as it was read, so that it can be written: amounts as digits."""
    return {
        name: format(value, "f") if isinstance(value, Decimal) else value
        for name, value in row.items()
    }


def _bounds(rewrite: Rewrite) -> dict[str, Any]:
    return {"project": rewrite.project_id, "since": rewrite.since, "until": rewrite.until}


def _difference(before: Row, after: Row) -> dict[str, int | Decimal]:
    was, now = before["cost_total"], after["cost_total"]
    return {
        "changed": 1,
        "newly_priced": int(was is None and now is not None),
        "newly_unpriced": int(was is not None and now is None),
        "before": was if was is not None else Decimal(0),
        "after": now if now is not None else Decimal(0),
    }
