"""When something happened, as files write it: microseconds since the epoch, UTC."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from nilometer.conventions import event_time
from nilometer.domain import clock
from nilometer.importers.formats.record import RecordFault
from nilometer.importers.trace_call import Reason

_LATEST = clock.to_micros(event_time.LATEST)
_MAX_CHARS = 64


def micros(value: Any) -> int:
    """The time of an ISO 8601 text or of seconds since the epoch.

    A text without a zone is UTC, as LiteLLM's database and ProdLens' files mean it; `+00:00Z`,
    which ProdLens wrote, is too. Raises RecordFault for everything else, and outside 1970 to 2105.
    """
    if type(value) is str:
        found = _of_text(value)
    elif type(value) in (int, float):
        found = round(value * 1_000_000) if 0 <= value <= _LATEST else -1
    else:
        raise RecordFault(Reason.BAD_TIME, "the time is neither a text nor a number")
    if not 0 <= found <= _LATEST:
        raise RecordFault(Reason.BAD_TIME, "the time is not between 1970 and 2105")
    return found


def _of_text(text: str) -> int:
    if len(text) > _MAX_CHARS:
        raise RecordFault(Reason.BAD_TIME, "the time is no ISO 8601 text")
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = _repaired(text.strip())
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1_000_000)


def _repaired(text: str) -> datetime:
    if text.endswith("Z") and ("+" in text or text.count("-") > 2):
        text = text[:-1]
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise RecordFault(Reason.BAD_TIME, "the time is no ISO 8601 text") from None
