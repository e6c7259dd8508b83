"""One call to a provider, from the request to the end of its answer: what is recorded of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from nilometer.sdk.observation import BASE_BYTES, Seen
from nilometer.sdk.tracker import Tracker

_LOG = logging.getLogger(__name__)

UNKNOWN_MODEL = "unknown"
REQUEST_IDS = (b"x-request-id", b"request-id", b"apim-request-id")
_BYTES = BASE_BYTES + 5000
"""What a call keeps in memory, about: with the headers of its answer, some 20."""
_NONE: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Lines:
    """A file of results: `has` tells a result from other lines that begin like an object, in little
    time, and `read` what one says, as another call. It may raise anything."""

    has: Callable[[bytes], bool]
    read: Callable[[Call, Mapping[str, Any]], Seen]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What a library's request asks for. `read` takes note of an answer, or of one event of a
    streamed one; with `lines` the answer is a file of results. Of a call that costs nothing in
    itself nothing is recorded (`billed`)."""

    operation: str
    convention: str | None
    read: Callable[[Call, Mapping[str, Any]], None]
    billed: bool = True
    lines: Lines | None = None


def unread(call: Call, data: Mapping[str, Any]) -> None:
    """Of a file of results only its lines are read."""


class Call:
    """What is known of a call so far. It is recorded once: at its end, however it ends, and where
    nobody ends it when nothing holds it any more. From then on it does not change, and what it says
    is put together by the tracker's thread."""

    __slots__ = (
        *("tracker", "service", "endpoint", "requested_model", "scopes", "begun", "ended"),
        *("answered", "stream", "heard", "complete", "first_token_at", "usage", "model"),
        *("response_id", "service_tier", "http_status", "provider_request_id", "headers"),
        *("retries", "error", "error_type", "subject", "memory", "late", "latency", "ended_at"),
    )

    size = _BYTES

    def __init__(
        self,
        tracker: Tracker,
        service: str,
        endpoint: Endpoint,
        requested_model: str | None,
        memory: dict[str, str],
        subject: str = "",
    ) -> None:
        self.tracker = tracker
        self.service = service
        self.endpoint = endpoint
        self.requested_model = requested_model
        self.memory = memory
        """What the client's calls told that later ones need; bounded by who writes it."""
        self.subject = subject
        """The id that the request's path names."""
        self.scopes = tracker.snapshot()
        self.ended = False
        self.answered = self.stream = self.heard = self.complete = False
        self.late = False
        """Whether the body is over and the library has not parsed it yet."""
        self.first_token_at: float | None = None
        self.usage: Any = None
        self.model: str | None = None
        self.response_id: str | None = None
        self.service_tier: str | None = None
        self.http_status: int | None = None
        self.provider_request_id: str | None = None
        self.headers: Any = None
        """Of the answer, which have the request's id where no error told it."""
        self.retries = 0
        self.error: BaseException | str | None = None
        self.error_type: str | None = None
        self.begun = time.perf_counter()

    def hear(self, data: Any) -> None:
        """Take note of the answer, or of an event of it."""
        # Nearly always a dict, for which the exact type is the cheaper question; so below.
        if self.ended or (type(data) is not dict and not isinstance(data, Mapping)):
            return
        self.heard = True
        try:
            self.endpoint.read(self, cast("Mapping[str, Any]", data))
        except Exception:  # noqa: BLE001  (an answer in no known shape is still the caller's)
            _LOG.debug("an answer could not be read for its usage", exc_info=True)

    def fail(self, error: BaseException) -> None:
        """Take note of what the caller gets instead of an answer, or of the rest of one."""
        if self.ended or self.error is not None:
            return
        self.error = error
        status = _told(error, "status_code")
        self.http_status = status if isinstance(status, int) else self.http_status
        self.provider_request_id = _told(error, "request_id")
        if not self.answered:
            self.retries = _retries(_told(_told(error, "request"), "headers"))

    def fail_with(self, error: Mapping[str, Any]) -> None:
        """Take note of an error that the answer itself tells."""
        kind = error.get("code") or error.get("type")
        self.error = str(error.get("message") or kind)
        self.error_type = None if kind is None else str(kind)

    def again(self) -> Call:
        """Another one for the same request."""
        return Call(
            self.tracker,
            self.service,
            self.endpoint,
            self.requested_model,
            self.memory,
            self.subject,
        )

    def first_token(self) -> None:
        """The first piece of the output is there."""
        if self.first_token_at is None:
            self.first_token_at = time.perf_counter()

    def end(self) -> None:
        """Record the call, unless it is."""
        if self.ended:
            return
        self.ended = True
        if not self.endpoint.billed:
            return
        self.latency = time.perf_counter() - self.begun
        if self.error is None:
            self.ended_at = time.time()
            self.tracker.take(self)
        else:  # an exception keeps its frames, and what they hold: it is made text of at once
            told = self.seen
            told["error"], told["context"] = self.error, self.scopes
            self.tracker.record(**told)

    @property
    def seen(self) -> Seen:
        """What there is to record but the error."""
        first = self.first_token_at
        return {
            "service": self.service,
            "model": self.model or self.requested_model or UNKNOWN_MODEL,
            "operation": self.endpoint.operation,
            "usage": self.usage,
            "convention": self.endpoint.convention,
            "latency": self.latency,
            "time_to_first_token": None if first is None else first - self.begun,
            "error_type": self.error_type,
            "http_status": self.http_status,
            "retries": self.retries,
            "provider_request_id": self.provider_request_id or _request_id(self.headers),
            "response_id": self.response_id,
            "requested_model": self.requested_model,
            "service_tier": self.service_tier,
            "stream": self.stream,
            "estimated": self.answered
            and (self.usage is None or (self.stream and not self.complete)),
        }

    def __del__(self) -> None:
        # An answer that nobody read to its end or closed. One that no answer came for was recorded
        # with its error.
        if not self.ended and self.answered:
            self.end()


def member(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """An object in an answer, an empty one where there is none."""
    found = data.get(name)
    if found is None:
        return _NONE
    if type(found) is dict or isinstance(found, Mapping):
        return cast("Mapping[str, Any]", found)
    return _NONE


def _request_id(headers: Any) -> str | None:
    """The first of the names that the answer has; None where nothing answered."""
    if headers is None:
        return None
    raw = ((name.lower(), value) for name, value in headers.raw)
    found = {name: value for name, value in raw if name in REQUEST_IDS}
    each = next((found[name] for name in REQUEST_IDS if name in found), None)
    return None if each is None else each.decode("latin-1")


def _told(thing: Any, name: str) -> Any:
    """An attribute, None where there is none, or where asking is an error (httpx's requests)."""
    try:
        return getattr(thing, name, None)
    except Exception:  # noqa: BLE001  (a stranger's property)
        return None


def _retries(headers: Any) -> int:
    count = str(headers.get("x-stainless-retry-count")) if headers else ""
    return int(count) if count.isdecimal() else 0
