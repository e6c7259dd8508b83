"""How far a server's clock is from ours, as well as a request can tell."""

from __future__ import annotations

import time

from nilometer.doctor.finding import Verdict, failed, ok, warning

WARN_SECONDS = 1.0
"""More than NTP leaves; times of one event then disagree visibly between rows and logs."""

FAIL_SECONDS = 900.0
"""S3 refuses requests that are signed so far from its own time (RequestTimeTooSkewed)."""

_REMEDY = "Keep both clocks by NTP (chrony or systemd-timesyncd on each machine)."


def local() -> float:
    """Our clock: seconds since the epoch."""
    return time.time()


def skew(server: float, before: float, after: float, *, resolution: float = 0.0) -> float:
    """By how many seconds at least the server's clock is ahead of ours; negative: behind.

    The server read its clock at some moment between our `before` and `after`, and told a time that
    is up to `resolution` seconds early. 0 where that explains the difference.
    """
    if server > after:
        return server - after
    if server + resolution < before:
        return server + resolution - before
    return 0.0


def judged(what: str, seconds: float) -> Verdict:
    """What a difference means."""
    far = abs(seconds)
    if far <= WARN_SECONDS:
        return ok(f"The clock of {what} agrees with this machine's to {WARN_SECONDS:g} s.")
    found = (
        f"The clock of {what} is {far:,.1f} s {'ahead of' if seconds > 0 else 'behind'} this "
        "machine's."
    )
    return failed(found, _REMEDY) if far > FAIL_SECONDS else warning(found, _REMEDY)
