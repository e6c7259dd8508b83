"""Time as Nilometer keeps it: UTC, timezone-aware, microseconds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def now() -> datetime:
    """The current time, UTC."""
    return datetime.now(UTC)


def to_micros(moment: datetime) -> int:
    """Microseconds since the epoch, exactly. Refuses a naive datetime with ValueError."""
    if moment.tzinfo is None:
        raise ValueError("a datetime without a time zone is ambiguous; give one with a zone")
    return (moment - EPOCH) // timedelta(microseconds=1)


def from_micros(micros: int) -> datetime:
    """The UTC datetime of microseconds since the epoch, exactly."""
    return EPOCH + timedelta(microseconds=micros)
