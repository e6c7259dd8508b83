"""One POST to an address that somebody gave, and whether what was answered is a success.

No more of the answer is read than says what became of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime

import httpx

from nilometer.domain import clock
from nilometer.errors import InvalidInput
from nilometer.notifications import exchange
from nilometer.notifications.channels.limits import ATTEMPT_SECONDS
from nilometer.notifications.failures import PermanentFailure, TemporaryFailure
from nilometer.notifications.reach import Reach

MAX_URL = 2000
MAX_RETRY_AFTER = 24 * 3600.0
_MAX_ANSWER = 1024
_AGAIN_LATER = frozenset({408, 425, 429})


@dataclass(frozen=True, slots=True)
class Answer:
    """What a receiver said: its status and the beginning of its text. That text is a stranger's:
    nothing of it goes into a log or an error as it is."""

    status: int
    text: str
    retry_after: float | None


def checked_url(text: str, attr: str = "url") -> httpx.URL:
    """The URL, if one can be sent to. Raises InvalidInput, which does not repeat it."""
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, UnicodeError):
        url = None
    if url is None or url.scheme not in ("https", "http") or not url.host or len(text) > MAX_URL:
        raise InvalidInput("give a URL: https://host/path", attr=attr)
    if url.userinfo or url.fragment:
        raise InvalidInput("give the URL without a user, a password or a fragment", attr=attr)
    return url


def post(url: str, body: bytes, headers: Mapping[str, str], reach: Reach) -> Answer:
    """Send it and return what was answered with success (2xx).

    Raises TemporaryFailure for what may pass: no answer, and the statuses 408, 425, 429 and 5xx.
    Raises PermanentFailure for any other answer, and for an address that may not be reached.
    """
    request = exchange.Request("POST", checked_url(url), headers, body)
    found = exchange.exchange(request, reach, seconds=ATTEMPT_SECONDS, most=_MAX_ANSWER)
    answer = Answer(
        found.status,
        found.body.decode("utf-8", "replace"),
        retry_after(found.headers.get("retry-after")),
    )
    _check(answer)
    return answer


def _check(answer: Answer) -> None:
    status = answer.status
    if 200 <= status < 300:
        return
    if status >= 500 or status in _AGAIN_LATER:
        raise TemporaryFailure(
            f"The receiver answered {status}.",
            code=f"http_{status}",
            retry_after=answer.retry_after,
        )
    led = "; it leads elsewhere, and no redirect is followed" if 300 <= status < 400 else ""
    raise PermanentFailure(f"The receiver answered {status}{led}.", code=f"http_{status}")


def retry_after(value: str | None) -> float | None:
    """The seconds of a `Retry-After`, given as a number or as a date (RFC 9110, section 10.2.3), at
    most a day; None where it says nothing."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:10]), MAX_RETRY_AFTER)
    try:
        until = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # the latter for a year that no integer of C holds
        return None
    seconds = (until.replace(tzinfo=until.tzinfo or UTC) - clock.now()).total_seconds()
    return min(max(0.0, seconds), MAX_RETRY_AFTER)
