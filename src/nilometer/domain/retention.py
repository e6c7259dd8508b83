"""When a retention ends: one rule, for the event's row and for the blob's key.

A key holds the day of acceptance and no time, so that a lifecycle rule of a bucket can follow it.
Hence what is kept N days is kept through the Nth day after that day, in UTC.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta


def expires_at(accepted_on: date, days: int) -> datetime:
    """The instant (UTC midnight) from which what was accepted on this UTC date may not be read.

    That is N to N + 1 days after the acceptance. Past the year 9999 it is the end of that year.
    """
    try:
        return datetime.combine(accepted_on, time(), tzinfo=UTC) + timedelta(days=days + 1)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)


def days(accepted_on: date, expires_at: datetime) -> int:
    """The retention in days of what was accepted on this date and expires at this instant."""
    return (expires_at.date() - accepted_on).days - 1
