"""Rows of the store that tell of one call, as one row."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import orjson

from nilometer.domain import clock
from nilometer.importers import telling
from nilometer.importers.store.columns import STORED_NAMES, Row
from nilometer.importers.telling import Telling, Told

_COLUMNS = tuple(map(STORED_NAMES.index, telling.COLUMNS))
_TIMESTAMP, _COST, _COMPLETENESS, _DETAILS = map(
    STORED_NAMES.index, ("timestamp", "cost_usd", "completeness", "details")
)


def merged(known: Row, new: Row, *, reprices: bool = False) -> Row:
    """What two rows of a call tell together, as `telling` has it; whichever comes first, the same.

    With `reprices` the price of the new one stands if it tells what the known one does.
    """
    if known == new:
        return known
    one, other = _telling(known), _telling(new)
    both = telling.together(one, other)
    is_new = other.rank > one.rank or (reprices and other.is_priced and one[:2] == other[:2])
    whole, tells = (new, other) if is_new else (known, one)
    return whole if both == tells else _row(whole, both)


def standing(*row: Any) -> str:
    """Text that is greater the more is known: of two rows of a call, in whatever files, the greater
    stands. Its arguments are a row's values in the order of `STORED`."""
    return _telling(row).standing


def _telling(row: Row) -> Telling:
    details: dict[str, Any] = orjson.loads(str(row[_DETAILS]))
    told = Told(tuple(row[place] for place in _COLUMNS), details, int(row[_COMPLETENESS] or 0))
    return telling.of(
        told,
        clock.to_micros(datetime.fromisoformat(str(row[_TIMESTAMP]))),
        told_at=details.get("told_at"),
        is_priced=row[_COST] is not None,
        is_time_assumed=bool(details.get("is_time_assumed")),
    )


def _row(whole: Row, both: Telling) -> Row:
    told: dict[str, Any] = orjson.loads(str(whole[_DETAILS]))
    details = {name: value for name, value in told.items() if name not in telling.APART}
    row = list(whole)
    row[_DETAILS] = orjson.dumps(details | both.apart, option=orjson.OPT_SORT_KEYS).decode()
    row[_TIMESTAMP] = clock.from_micros(both.started_at).isoformat(timespec="microseconds")
    return tuple(row)
