"""Moments as the API writes them: RFC 3339 in UTC with microseconds, `2025-07-01T11:00:00.000000Z`.

Inside, a moment is microseconds since the epoch, which is what the store compares.
"""

from __future__ import annotations

from datetime import datetime

from nilometer.domain import clock
from nilometer.errors import InvalidInput

# What a DateTime64(6) column holds; a filter beyond it could match nothing, or wrap around.
_EARLIEST_YEAR = 1900
_LATEST_YEAR = 2299
_LONGEST = 64


def rfc3339(micros: int) -> str:
    """The text of a moment given in microseconds since the epoch."""
    naive = clock.from_micros(micros).replace(tzinfo=None)
    return naive.isoformat(timespec="microseconds") + "Z"


def parse(text: str, *, attr: str) -> int:
    """Microseconds since the epoch of an RFC 3339 text.

    Raises InvalidInput, naming `attr`, for any other text, for one without a time zone (which
    moment it means would depend on the reader) and for years that the store cannot hold.
    """
    try:
        short = len(text) <= _LONGEST and text.isprintable()  # fromisoformat stops at a NUL
        moment = datetime.fromisoformat(text) if short else None
    except ValueError:
        moment = None
    if moment is None:
        raise InvalidInput(
            f"{attr} is not a time such as 2025-07-01T11:00:00Z; "
            "in a URL write + as %2B, or use Z for UTC.",
            attr=attr,
        )
    if moment.tzinfo is None:
        raise InvalidInput(f"{attr} has no time zone; add Z for UTC, or +02:00.", attr=attr)
    if not _EARLIEST_YEAR < moment.year < _LATEST_YEAR:
        raise InvalidInput(
            f"{attr} must be between the years {_EARLIEST_YEAR} and {_LATEST_YEAR}.", attr=attr
        )
    return clock.to_micros(moment)
