"""The AI door: `POST /i/v0/ai` and `/ai`, raw ASGI.

One request, in order: method, declared size, key, admission, body (bounded, streamed through
gunzip and the form reader), event rules, blobs made durable, record appended. The answer leaves
after the append: a 2xx is durable.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from nilometer.access.keyring import Keyring
from nilometer.access.types import CaptureMode, ProjectConfig
from nilometer.blobs.store import BlobStore
from nilometer.capture import answers
from nilometer.capture.admission import Admission, Reservation
from nilometer.capture.ai_event import AiEvent, identify
from nilometer.capture.ai_form import AiFormReader, FormLimits
from nilometer.capture.answers import Answer
from nilometer.capture.asgi import Receive, Scope, Send
from nilometer.capture.authorization import bearer_token, capturing_project
from nilometer.capture.content_type import form_boundary
from nilometer.capture.off_loop import OffLoop
from nilometer.capture.patience import Patience
from nilometer.capture.provenance import UNKNOWN_ADDRESS, client_address, trace_context
from nilometer.capture.recorder import Recorder
from nilometer.capture.refusals import (
    ClientGone,
    DecodingFault,
    Dropped,
    OverQuota,
    ParsingFault,
    Refusal,
    TooBig,
)
from nilometer.capture.request_body import BodyLimits, Gunzip, read_body
from nilometer.capture.request_head import RequestHead, read_head
from nilometer.capture.translation import translated
from nilometer.domain.ai_record import DOOR
from nilometer.log.port import Log
from nilometer.observability.metrics import INFLIGHT_BYTES, REQUEST_SECONDS, REQUESTS
from nilometer.settings import Settings

_LOGGER = logging.getLogger(__name__)
_GONE = Answer(499, b"", [], "client_gone")  # never sent: a label for the metrics
_PATHS = frozenset({"/i/v0/ai", "/i/v0/ai/", "/ai", "/ai/"})


def _micros() -> int:
    return time.time_ns() // 1000


class CaptureApp:
    """An ASGI application for http scopes whose path is in `paths`.

    `clock` gives the acceptance time in microseconds since the epoch.
    """

    paths: frozenset[str] = _PATHS

    def __init__(
        self,
        *,
        log: Log,
        blobs: BlobStore,
        keyring: Keyring,
        settings: Settings,
        clock: Callable[[], int] = _micros,
    ) -> None:
        self._recorder = Recorder(log, blobs)
        self._keyring = keyring
        self._clock = clock
        self._admission = Admission(settings.max_inflight_bytes, settings.project_inflight_share)
        self._body_limits = BodyLimits(
            settings.max_wire_bytes, settings.body_idle_timeout, settings.body_timeout
        )
        self._form_limits = FormLimits(
            event=settings.max_event_part_bytes,
            event_and_properties=settings.max_event_and_properties_bytes,
            parts=settings.max_parts_bytes,
            part_count=settings.max_parts,
            blobs=settings.blob_parts,
        )
        self._patience = Patience()
        self._off_loop = OffLoop()
        self._strict = settings.strict_schema
        self._trusted_proxies = settings.trusted_proxies
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._seconds = REQUEST_SECONDS.labels(DOOR)
        self._counters = {(200, "ok"): REQUESTS.labels(DOOR, "200", "ok")}
        INFLIGHT_BYTES.set_function(lambda: self._admission.in_flight)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        started = time.perf_counter()
        self._in_flight += 1
        self._idle.clear()
        answer = _GONE
        try:
            headers = dict(scope["headers"])
            answer = await self._answer(scope, headers, receive)
            if answer is not _GONE:
                await answers.send_answer(send, answer, _closing_headers(scope, headers, answer))
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._idle.set()
            self._count(answer, time.perf_counter() - started)

    async def drain(self) -> None:
        """Wait until no request is in flight; new ones must be kept away by the caller."""
        await self._idle.wait()

    async def _answer(self, scope: Scope, headers: dict[bytes, bytes], receive: Receive) -> Answer:
        """The answer to a request; every error becomes one here, once."""
        accept = headers.get(b"accept")
        try:
            if scope["method"] == "OPTIONS":
                return answers.options()
            event = await self._capture(read_head(scope, headers), receive)
            return answers.success(event.accepted)
        except Dropped:
            return answers.success([], "dropped")
        except ClientGone:
            return _GONE
        except Refusal as error:
            return answers.refusal(error, accept)
        except Exception as error:  # noqa: BLE001  (translated and, if a defect, logged)
            return answers.refusal(translated(error), accept)

    async def _capture(self, request: RequestHead, receive: Receive) -> AiEvent:
        declared = request.declared
        if declared is not None and declared > self._body_limits.size:
            raise TooBig(
                f"request body exceeds maximum allowed size ({self._body_limits.size} bytes)"
            )
        token = bearer_token(request.headers.get(b"authorization"))
        principal = await self._keyring.admit(token, self._address(request.scope))
        project = capturing_project(principal)
        with self._admission.reserve(project.project_id, declared or 0) as reservation:
            event = await self._read_event(request, receive, project, reservation)
            await self._keep(request, event, project)
        return event

    async def _read_event(
        self,
        request: RequestHead,
        receive: Receive,
        project: ProjectConfig,
        reservation: Reservation,
    ) -> AiEvent:
        """The event of a request, or the first fault in the contract's order."""
        reader = self._reader(request.headers.get(b"content-type"), project)
        if isinstance(reader, DecodingFault):
            await self._read(request, receive, _ignore, reservation)
            raise reader
        try:
            await self._read(request, receive, reader.feed, reservation)
        except (DecodingFault, ParsingFault, TooBig):
            await self._off_loop.run(reader.unread, reader.check_unread)  # they came first
            raise
        return await self._off_loop.run(
            reader.unread, lambda: identify(reader.finish(), strict=self._strict)
        )

    async def _read(
        self,
        request: RequestHead,
        receive: Receive,
        consume: Callable[[bytes], None],
        reservation: Reservation,
    ) -> None:
        encoding = request.headers.get(b"content-encoding", b"").strip().lower()
        await read_body(
            receive,
            consume,
            gunzip=Gunzip() if encoding == b"gzip" else None,
            limits=self._body_limits,
            patience=self._patience,
            declared=request.declared,
            hold=reservation.grow,
        )

    def _reader(
        self, content_type: bytes | None, project: ProjectConfig
    ) -> AiFormReader | DecodingFault:
        """A reader, or why there is none: faults of the body itself are reported first."""
        try:
            boundary = form_boundary(content_type)
        except DecodingFault as fault:
            return fault
        return AiFormReader(boundary, self._form_limits, lambda who: _admit(project, who))

    async def _keep(self, request: RequestHead, event: AiEvent, project: ProjectConfig) -> None:
        await self._recorder.record(
            event,
            project,
            accepted_at=self._clock(),
            ip=UNKNOWN_ADDRESS if event.internal else self._address(request.scope),
            trace_context=trace_context(request.headers.get(b"traceparent")),
        )

    def _address(self, scope: Scope) -> str:
        forwarded: list[bytes] = []
        if self._trusted_proxies:
            forwarded = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
        return client_address(scope.get("client"), forwarded, self._trusted_proxies)

    def _count(self, answer: Answer, seconds: float) -> None:
        key = (answer.status, answer.reason)
        counter = self._counters.get(key)
        if counter is None:
            counter = self._counters[key] = REQUESTS.labels(DOOR, str(answer.status), answer.reason)
        counter.inc()
        self._seconds.observe(seconds)


def _admit(project: ProjectConfig, distinct_id: str) -> None:
    """Step 9: the project's own rules, known as soon as the event part is."""
    if project.capture is CaptureMode.DROP or distinct_id in project.dropped_distinct_ids:
        raise Dropped
    if project.capture is CaptureMode.OVER_QUOTA:
        raise OverQuota


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


def _ignore(chunk: bytes) -> None:
    """Take a body that will be refused for its content type once it has arrived."""
