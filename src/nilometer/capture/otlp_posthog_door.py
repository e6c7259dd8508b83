"""PostHog's OTLP door: `POST /i/v0/ai/otel` (capture contract, section 9).

All or nothing, and refused with 400, so that no exporter tries again; but a span that is too large
is shed alone. Only spans of AI are kept. The answer is JSON, whatever the request was.
"""

from __future__ import annotations

from nilometer.access.types import CaptureMode, ProjectConfig
from nilometer.capture.answers import Answer
from nilometer.capture.asgi import Receive, Scope
from nilometer.capture.authorization import bearer_token
from nilometer.capture.decompression import Gunzip
from nilometer.capture.gate import Gate, check_declared
from nilometer.capture.otlp_export import Export, SpanRules, read_export
from nilometer.capture.otlp_json import to_protobuf
from nilometer.capture.otlp_keeping import Sender, keep, wanted_by
from nilometer.capture.otlp_redaction import guard
from nilometer.capture.part_body import PartBody
from nilometer.capture.provenance import trace_context
from nilometer.capture.redaction import redactor_for
from nilometer.capture.refusals import Dropped, EmptyPayload, ParsingFault
from nilometer.capture.request_head import RequestHead, read_head
from nilometer.domain import protobuf_wire
from nilometer.domain.otlp_request import TooManySpans
from nilometer.domain.protobuf_wire import MalformedMessage

MAX_BYTES = 4 * 1024 * 1024
MAX_SPANS = 1000
MAX_AI_SPANS = 100
"""The contract's limits, section 3."""

_JSON = (b"content-type", b"application/json")
_PROTOBUF_TYPE, _JSON_TYPE = b"application/x-protobuf", b"application/json"
_SPANS = (frozenset({1}), frozenset({2}), frozenset({2}))
# What sheds a span alone; any other fault refuses the request.
_SHED = frozenset({"too_large", "too_many_parts", "large_resource", "repeated_resource"})


class OtlpPostHogDoor:
    """Spans of AI as PostHog's exporters send them."""

    name = "otlp_posthog"
    allow = "POST, OPTIONS"
    paths = frozenset({"/i/v0/ai/otel", "/i/v0/ai/otel/"})

    def __init__(self, gate: Gate) -> None:
        settings = gate.settings
        self._gate = gate
        most = min(MAX_BYTES, settings.max_otlp_bytes)
        self._limits = gate.body_limits(most, most)
        self._rules = SpanRules(settings.max_otlp_span_bytes, checked_ids=False)

    async def capture(self, scope: Scope, headers: dict[bytes, bytes], receive: Receive) -> Answer:
        """200 `{}`."""
        request = read_head(scope, headers, self.allow)
        check_declared(request, self._limits)
        token = bearer_token(headers.get(b"authorization"))
        project = await self._gate.project(token, scope)
        if project.capture is CaptureMode.DROP:
            raise Dropped
        sender = Sender(
            project, token, self._gate.address(scope), trace_context(headers.get(b"traceparent"))
        )
        with self._gate.admission.reserve(project.project_id, request.declared or 0) as room:
            body = PartBody()
            await self._gate.read(
                request, receive, body.add, room, decoder=_decoder(headers), limits=self._limits
            )
            return await self._answer(body.joined(), request, sender)

    def dropped(self) -> Answer:
        """200 `{}`, as for what is kept."""
        return _answer(200, b"{}", "dropped")

    def accepted_form(self, headers: dict[bytes, bytes]) -> bytes | None:
        """What the client asks for."""
        return headers.get(b"accept")

    async def _answer(self, body: bytes, request: RequestHead, sender: Sender) -> Answer:
        if not body:
            raise EmptyPayload
        work = lambda: self._export(body, request.headers, sender.project)  # noqa: E731
        export = await self._gate.off_loop.run(len(body), work)
        if not export.kept and not export.rejected:
            return _answer(200, b"{}", "ok")
        if sender.project.capture is CaptureMode.OVER_QUOTA:
            return _answer(400, b'{"error":"quota exceeded"}', "over_quota")
        await keep(self._gate, sender, export, protocol="posthog")
        return _answer(200, b"{}", "ok")

    def _export(self, body: bytes, headers: dict[bytes, bytes], project: ProjectConfig) -> Export:
        request = to_protobuf(body) if _is_json(headers) else body
        wanted = wanted_by(project, ai_only=True)
        try:
            export = read_export(request, self._rules, most_spans=MAX_SPANS, wanted=wanted)
        except MalformedMessage as error:
            raise _invalid(str(error)) from None
        except TooManySpans:
            raise _too_many("spans", _span_count(request), MAX_SPANS) from None
        if not _SHED.issuperset(export.rejected):
            raise _invalid(export.malformed)
        if export.kept > MAX_AI_SPANS:
            raise _too_many("AI spans", export.kept, MAX_AI_SPANS)
        return guard(export, redactor_for(project))


def _decoder(headers: dict[bytes, bytes]) -> Gunzip | None:
    encoding = headers.get(b"content-encoding")
    if encoding is None:
        return None
    if encoding.strip().lower() != b"gzip":
        shown = encoding[:64].decode("latin-1")
        raise ParsingFault(f"Unsupported content-encoding: {shown}", code="unsupported_encoding")
    return Gunzip()


def _is_json(headers: dict[bytes, bytes]) -> bool:
    """Whether the body is JSON rather than protobuf. Raises ParsingFault for anything else."""
    content_type = headers.get(b"content-type", b"")
    if not content_type.startswith((_PROTOBUF_TYPE, _JSON_TYPE)):
        raise ParsingFault(
            "Content-Type must be application/x-protobuf or application/json",
            code="invalid_content_type",
        )
    return content_type.startswith(_JSON_TYPE)


def _span_count(request: bytes) -> int:
    return protobuf_wire.count(request, 0, len(request), _SPANS)


def _too_many(what: str, count: int, limit: int) -> ParsingFault:
    return ParsingFault(f"Too many {what}: {count} exceeds limit of {limit}", code="too_many_spans")


def _invalid(reason: str) -> ParsingFault:
    return ParsingFault(f"Invalid protobuf: {reason}", code="invalid_protobuf")


def _answer(status: int, body: bytes, reason: str) -> Answer:
    return Answer(status, body, [_JSON], reason)
