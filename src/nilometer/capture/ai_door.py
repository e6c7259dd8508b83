"""The AI door: `POST /i/v0/ai` and `/ai`.

One request, in order: method, declared size, key, admission, body (bounded, streamed through
gunzip and the form reader), event rules, blobs made durable, record appended. The answer leaves
after the append: a 2xx is durable.
"""

from __future__ import annotations

from collections.abc import Callable

from nilometer.access.types import ProjectConfig
from nilometer.capture import answers
from nilometer.capture.admission import Reservation
from nilometer.capture.ai_event import AiEvent, identify
from nilometer.capture.ai_form import AiFormReader, FormLimits
from nilometer.capture.answers import Answer
from nilometer.capture.asgi import Receive, Scope
from nilometer.capture.authorization import bearer_token
from nilometer.capture.content_type import form_boundary
from nilometer.capture.decompression import Gunzip
from nilometer.capture.gate import Gate, check_declared, check_mode
from nilometer.capture.provenance import UNKNOWN_ADDRESS, trace_context
from nilometer.capture.redaction import kept_address, redacted_ai_event, redactor_for
from nilometer.capture.refusals import DecodingFault, Dropped, ParsingFault, TooBig
from nilometer.capture.request_head import RequestHead, read_head
from nilometer.domain.ai_record import DOOR
from nilometer.domain.redaction.redactor import Redactor


class AiDoor:
    """One AI event with its blobs, as multipart."""

    name = DOOR
    allow = "POST, OPTIONS"
    paths = frozenset({"/i/v0/ai", "/i/v0/ai/", "/ai", "/ai/"})

    def __init__(self, gate: Gate) -> None:
        settings = gate.settings
        self._gate = gate
        self._body_limits = gate.body_limits(settings.max_wire_bytes)
        self._form_limits = FormLimits(
            event=settings.max_event_part_bytes,
            event_and_properties=settings.max_event_and_properties_bytes,
            parts=settings.max_parts_bytes,
            part_count=settings.max_parts,
            blobs=settings.blob_parts,
        )
        self._strict = settings.strict_schema

    async def capture(self, scope: Scope, headers: dict[bytes, bytes], receive: Receive) -> Answer:
        """200 with the parts that were accepted."""
        request = read_head(scope, headers, self.allow)
        check_declared(request, self._body_limits)
        token = bearer_token(headers.get(b"authorization"))
        project = await self._gate.project(token, scope)
        room = self._gate.admission.reserve(project.project_id, request.declared or 0)
        with room as reservation:
            event = await self._read_event(request, receive, project, reservation)
            redactor = redactor_for(project)
            if redactor is not None:
                event = await self._redacted(event, redactor, reservation)
            await self._keep(request, event, project, redactor)
        return answers.success(event.accepted)

    def dropped(self) -> Answer:
        """200 without parts."""
        return answers.success([], "dropped")

    def accepted_form(self, headers: dict[bytes, bytes]) -> bytes | None:
        """What the client asks for."""
        return headers.get(b"accept")

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
        run = self._gate.off_loop.run
        try:
            await self._read(request, receive, reader.feed, reservation)
        except (DecodingFault, ParsingFault, TooBig):
            await run(reader.unread, reader.check_unread)  # they came first
            raise
        return await run(reader.unread, lambda: identify(reader.finish(), strict=self._strict))

    async def _read(
        self,
        request: RequestHead,
        receive: Receive,
        consume: Callable[[bytes], None],
        reservation: Reservation,
    ) -> None:
        encoding = request.headers.get(b"content-encoding", b"").strip().lower()
        await self._gate.read(
            request,
            receive,
            consume,
            reservation,
            decoder=Gunzip() if encoding == b"gzip" else None,
            limits=self._body_limits,
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

    async def _redacted(
        self, event: AiEvent, redactor: Redactor, reservation: Reservation
    ) -> AiEvent:
        reservation.grow(reservation.size + event.size)  # what is redacted stands beside it
        work = lambda: redacted_ai_event(event, redactor, self._form_limits.parts)  # noqa: E731
        return await self._gate.off_loop.run(event.size, work)

    async def _keep(
        self,
        request: RequestHead,
        event: AiEvent,
        project: ProjectConfig,
        redactor: Redactor | None,
    ) -> None:
        address = UNKNOWN_ADDRESS if event.internal else self._gate.address(request.scope)
        await self._gate.recorder.record(
            event,
            project,
            accepted_at=self._gate.clock(),
            ip=kept_address(redactor, address),
            trace_context=trace_context(request.headers.get(b"traceparent")),
        )


def _admit(project: ProjectConfig, distinct_id: str) -> None:
    """Step 9: the project's own rules, known as soon as the event part is."""
    if distinct_id in project.dropped_distinct_ids:
        raise Dropped
    check_mode(project)


def _ignore(chunk: bytes) -> None:
    """Take a body that will be refused for its content type once it has arrived."""
