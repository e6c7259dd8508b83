"""Every door behind one raw ASGI application: which door a path is, and how errors are answered.

Raw ASGI, because a framework costs five times the request (DESIGN.md).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from nilometer.access.keyring import Keyring
from nilometer.blobs.store import BlobStore
from nilometer.capture import answers
from nilometer.capture.admission import Admission
from nilometer.capture.ai_door import AiDoor
from nilometer.capture.answers import Answer
from nilometer.capture.asgi import Receive, Scope, Send
from nilometer.capture.gate import Door, Gate, micros_now
from nilometer.capture.litellm_door import LiteLLMDoor
from nilometer.capture.off_loop import OffLoop
from nilometer.capture.otlp_door import OtlpDoor
from nilometer.capture.otlp_posthog_door import OtlpPostHogDoor
from nilometer.capture.patience import Patience
from nilometer.capture.posthog_v0 import PostHogV0Door
from nilometer.capture.posthog_v1 import PostHogV1Door
from nilometer.capture.recorder import Recorder
from nilometer.capture.refusals import ClientGone, Dropped, Refusal
from nilometer.capture.translation import translated
from nilometer.log.port import Log
from nilometer.observability.metrics import INFLIGHT_BYTES, REQUEST_SECONDS, REQUESTS
from nilometer.settings import Settings

_GONE = Answer(499, b"", [], "client_gone")  # never sent: a label for the metrics


class CaptureApp:
    """An ASGI application for http scopes whose path is in `paths`.

    `clock` gives the acceptance time in microseconds since the epoch. `gate` is what doors that
    are not HTTP's share with these.
    """

    def __init__(
        self,
        *,
        log: Log,
        blobs: BlobStore,
        keyring: Keyring,
        settings: Settings,
        clock: Callable[[], int] = micros_now,
    ) -> None:
        self._admission = Admission(settings.max_inflight_bytes, settings.project_inflight_share)
        self.gate = gate = Gate(
            keyring=keyring,
            recorder=Recorder(log, blobs),
            admission=self._admission,
            settings=settings,
            clock=clock,
            patience=Patience(),
            off_loop=OffLoop(),
        )
        doors: Sequence[Door] = (
            AiDoor(gate),
            PostHogV0Door(gate),
            PostHogV1Door(gate),
            LiteLLMDoor(gate),
            OtlpDoor(gate),
            OtlpPostHogDoor(gate),
        )
        self._doors = {path: _MeasuredDoor(door) for door in doors for path in door.paths}
        self.paths = frozenset(self._doors)
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()
        INFLIGHT_BYTES.set_function(lambda: self._admission.in_flight)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        started = time.perf_counter()
        measured = self._doors[scope["path"]]
        self._in_flight += 1
        self._idle.clear()
        answer = _GONE
        try:
            headers = dict(scope["headers"])
            answer = await _answer(measured.door, scope, headers, receive)
            if answer is not _GONE:
                await answers.send_answer(send, answer, _closing_headers(scope, headers, answer))
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._idle.set()
            measured.count(answer, time.perf_counter() - started)

    async def drain(self) -> None:
        """Wait until no request is in flight; new ones must be kept away by the caller."""
        await self._idle.wait()


class _MeasuredDoor:
    """A door, and the children of its metrics, resolved once."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self._seconds = REQUEST_SECONDS.labels(door.name)
        self._counters = {(200, "ok"): REQUESTS.labels(door.name, "200", "ok")}

    def count(self, answer: Answer, seconds: float) -> None:
        key = (answer.status, answer.reason)
        counter = self._counters.get(key)
        if counter is None:
            counter = REQUESTS.labels(self.door.name, str(answer.status), answer.reason)
            self._counters[key] = counter
        counter.inc()
        self._seconds.observe(seconds)


async def _answer(
    door: Door, scope: Scope, headers: dict[bytes, bytes], receive: Receive
) -> Answer:
    """The answer to a request; every error becomes one here, once."""
    try:
        if scope["method"] == "OPTIONS":
            return answers.options(door.allow)
        return await door.capture(scope, headers, receive)
    except Dropped:
        return door.dropped()
    except ClientGone:
        return _GONE
    except Refusal as error:
        return answers.refusal(error, door.accepted_form(headers))
    except Exception as error:  # noqa: BLE001  (translated and, if a defect, logged)
        return answers.refusal(translated(error), door.accepted_form(headers))


def _closing_headers(
    scope: Scope, headers: dict[bytes, bytes], answer: Answer
) -> list[tuple[bytes, bytes]]:
    """CORS headers; and `connection: close` where a refused client still waits for 100 Continue,
    because nobody can tell whether it will send its body."""
    preflight = scope["method"] == "OPTIONS"
    extra = answers.cors_headers(
        headers.get(b"origin"),
        headers.get(b"access-control-request-headers"),
        preflight=preflight,
    )
    if answer.status >= 400 and b"expect" in headers:
        extra.append((b"connection", b"close"))
    return extra
