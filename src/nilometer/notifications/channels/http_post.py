"""One POST to an address that somebody gave: bounded in time and size, and never led elsewhere.

A redirect is not followed, the environment's proxies are not used, TLS is verified against the name
that was given, and no more of the answer is read than says what became of it.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import cache

import httpx

from nilometer.domain import clock
from nilometer.errors import InvalidInput
from nilometer.notifications.channels.limits import ATTEMPT_SECONDS, CONNECT_SECONDS
from nilometer.notifications.failures import PermanentFailure, TemporaryFailure
from nilometer.notifications.reach import Place, Reach

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
    parsed = checked_url(url)
    port = parsed.port or (443 if parsed.scheme == "https" else 80)
    places = reach.places(parsed.host, port)
    if parsed.scheme == "http" and not all(place.named for place in places):
        raise PermanentFailure(
            "Without TLS nothing is sent but to networks that the operator named: give https.",
            code="not_encrypted",
        )
    answer = asyncio.run(_sent(parsed, places, body, {**headers, "Host": parsed.netloc.decode()}))
    _check(answer)
    return answer


async def _sent(
    url: httpx.URL, places: list[Place], body: bytes, headers: Mapping[str, str]
) -> Answer:
    timeout = httpx.Timeout(ATTEMPT_SECONDS, connect=CONNECT_SECONDS)
    try:
        # The library bounds each read; a receiver that sends a byte at a time needs this as well.
        async with (
            asyncio.timeout(ATTEMPT_SECONDS),
            httpx.AsyncClient(verify=_trusted(), trust_env=False, timeout=timeout) as client,
        ):
            return await _first_reached(client, url, places, body, headers)
    except (TimeoutError, httpx.TimeoutException):
        raise TemporaryFailure("The receiver did not answer in time.", code="timeout") from None
    except httpx.HTTPError as error:
        raise _unanswered(error) from None


async def _first_reached(
    client: httpx.AsyncClient,
    url: httpx.URL,
    places: list[Place],
    body: bytes,
    headers: Mapping[str, str],
) -> Answer:
    for place in places[:-1]:
        try:
            return await _ask(client, url, place, body, headers)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            continue
    return await _ask(client, url, places[-1], body, headers)


async def _ask(
    client: httpx.AsyncClient, url: httpx.URL, place: Place, body: bytes, headers: Mapping[str, str]
) -> Answer:
    """Ask at one address; its certificate must be the name's all the same."""
    pinned = url.copy_with(host=place.address)
    request = client.stream(
        "POST", pinned, content=body, headers=headers, extensions={"sni_hostname": url.host}
    )
    async with request as answer:
        start = b""
        async for chunk in answer.aiter_raw(_MAX_ANSWER):
            start += chunk
            if len(start) >= _MAX_ANSWER:
                break
        return Answer(
            answer.status_code,
            start[:_MAX_ANSWER].decode("utf-8", "replace"),
            retry_after(answer.headers.get("retry-after")),
        )


@cache
def _trusted() -> ssl.SSLContext:
    """Who is believed: certifi's authorities, or those of SSL_CERT_FILE and SSL_CERT_DIR."""
    return httpx.create_ssl_context()


def _unanswered(error: httpx.HTTPError) -> TemporaryFailure:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return TemporaryFailure(
                "The receiver's certificate cannot be verified.", code="certificate_refused"
            )
        cause = cause.__cause__ or cause.__context__
    return TemporaryFailure(
        f"The receiver cannot be reached ({type(error).__name__}).", code="unreachable"
    )


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
    except ValueError:
        return None
    seconds = (until.replace(tzinfo=until.tzinfo or UTC) - clock.now()).total_seconds()
    return min(max(0.0, seconds), MAX_RETRY_AFTER)
