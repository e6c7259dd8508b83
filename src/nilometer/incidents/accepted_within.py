"""When an incident was accepted, as its id has it: the key of the table then finds it."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ColumnElement

from nilometer.domain import clock
from nilometer.incidents.tables import IncidentRow

_CLOCKS_DIFFER = 5 * 60 * 1_000_000


def ids_within(since: datetime | None, until: datetime | None) -> list[ColumnElement[bool]]:
    """Bounds of times of acceptance on the ids, which begin with their millisecond. Clocks of
    several processes may differ a little, so the bounds are wider than the times."""
    conditions: list[ColumnElement[bool]] = []
    if since is not None:
        conditions.append(IncidentRow.id >= _earliest_id(clock.to_micros(since) - _CLOCKS_DIFFER))
    if until is not None:
        conditions.append(IncidentRow.id < _earliest_id(clock.to_micros(until) + _CLOCKS_DIFFER))
    return conditions


def _earliest_id(micros: int) -> str:
    digits = f"{min(max(0, micros // 1000), 2**48 - 1):012x}"
    return f"{digits[:8]}-{digits[8:]}"
