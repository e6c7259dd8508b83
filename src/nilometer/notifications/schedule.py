"""When to try again."""

from __future__ import annotations

from datetime import datetime, timedelta

FIRST = timedelta(seconds=5)
LONGEST = timedelta(hours=1)


def next_attempt(
    attempts: int, now: datetime, give_up_at: datetime, chance: float, retry_after: float | None
) -> datetime | None:
    """When to try again after so many attempts that failed for now; None to give up.

    The wait doubles from 5 seconds to an hour, and is between half of that and all of it (`chance`
    is from 0 to 1), so that many that failed together do not come back together. It is never less
    than what the receiver asked for. The last attempt is at `give_up_at`; a receiver that wants to
    be left alone for longer is given up at once.
    """
    if now >= give_up_at:
        return None
    whole = min(LONGEST, FIRST * 2 ** min(attempts - 1, 20))
    asked = now + timedelta(seconds=retry_after or 0)
    if asked > give_up_at:
        return None
    return max(asked, min(now + whole * (0.5 + chance / 2), give_up_at))
