"""The OTLP door over HTTP: `POST /v1/traces`, also under Langfuse's path.

Spans are judged one by one: what breaks a rule is rejected and told as OTLP's partial success, the
others are durable when the 200 leaves. Metrics and logs are not kept, and the answer says so.
"""

from __future__ import annotations

from nilometer.capture import otlp_answers
from nilometer.capture.admission import Reservation
from nilometer.capture.answers import Answer
from nilometer.capture.asgi import Receive, Scope
from nilometer.capture.decompression import decoder_for
from nilometer.capture.gate import Gate, check_declared, check_mode
from nilometer.capture.otlp_credentials import read_credentials
from nilometer.capture.otlp_export import Export, SpanRules, read_export, rejection_message
from nilometer.capture.otlp_json import to_protobuf
from nilometer.capture.otlp_keeping import Sender, keep, wanted_by
from nilometer.capture.otlp_redaction import guard
from nilometer.capture.otlp_signals import OTHER_SIGNALS, Signal, refuse_all
from nilometer.capture.part_body import PartBody
from nilometer.capture.provenance import trace_context
from nilometer.capture.redaction import redactor_for
from nilometer.capture.refusals import (
    ClientGone,
    Dropped,
    EmptyPayload,
    ParsingFault,
    Refusal,
    TooBig,
    UnsupportedMediaType,
)
from nilometer.capture.request_head import RequestHead, read_head
from nilometer.capture.translation import translated
from nilometer.domain.otlp_record import DOOR
from nilometer.domain.otlp_request import TooManySpans
from nilometer.domain.protobuf_wire import MalformedMessage

_BASES = ("", "/api/public/otel")
_COPIES = 2
"""Of a body, that stand beside it: its spans taken apart, and the record."""
_PROTOBUF = (b"application/x-protobuf", b"application/protobuf")


class OtlpDoor:
    """Traces, and what else an exporter is set up to send to the same place."""

    name = DOOR
    allow = "POST, OPTIONS"

    def __init__(self, gate: Gate) -> None:
        settings = gate.settings
        self._gate = gate
        self._limits = gate.body_limits(settings.max_otlp_bytes, settings.max_otlp_bytes)
        self._reader = ExportReader(
            SpanRules(settings.max_otlp_span_bytes), settings.max_otlp_spans
        )
        self._signals = {
            f"{base}/v1/{signal.name}{slash}": signal
            for base in _BASES
            for signal in OTHER_SIGNALS
            for slash in ("", "/")
        }
        traces = {f"{base}/v1/traces{slash}" for base in _BASES for slash in ("", "/")}
        self.paths = frozenset(traces | set(self._signals))

    async def capture(self, scope: Scope, headers: dict[bytes, bytes], receive: Receive) -> Answer:
        """200, as protobuf or JSON, as the request is; a refusal in the same form."""
        json = _is_json(headers)
        try:
            return await self._capture(scope, headers, receive, json=json)
        except (Dropped, ClientGone):
            raise
        except Refusal as error:
            return otlp_answers.refusal(error, json=json)
        except Exception as error:  # noqa: BLE001  (translated and, if a defect, logged)
            return otlp_answers.refusal(translated(error), json=json)

    def dropped(self) -> Answer:
        """An empty success, which is valid in either form."""
        return Answer(200, b"", [(b"content-type", otlp_answers.PROTOBUF)], "dropped")

    def accepted_form(self, headers: dict[bytes, bytes]) -> bytes | None:
        """The form of what this door does not answer itself."""
        return headers.get(b"accept")

    async def _capture(
        self, scope: Scope, headers: dict[bytes, bytes], receive: Receive, *, json: bool
    ) -> Answer:
        request = _head(scope, headers, self.allow)
        check_declared(request, self._limits)
        sender = await sender_of(self._gate, request)
        if request.declared == 0 and not json:
            return otlp_answers.exported(json=json, rejected=0, message="")
        _check_content_type(headers)
        with self._gate.admission.reserve(sender.project.project_id, request.declared or 0) as room:
            body = await self._body(request, receive, room)
            signal = self._signals.get(scope["path"])
            if signal is not None:
                return await self._refuse_signal(body, signal, json=json)
            room.grow((1 + _COPIES) * len(body))
            return await self._keep(body, sender, json=json)

    async def _body(self, request: RequestHead, receive: Receive, room: Reservation) -> bytes:
        decoder = decoder_for(request.headers.get(b"content-encoding", b""))
        body = PartBody()
        await self._gate.read(
            request, receive, body.add, room, decoder=decoder, limits=self._limits
        )
        return body.joined()

    async def _keep(self, body: bytes, sender: Sender, *, json: bool) -> Answer:
        check_mode(sender.project)
        work = lambda: self._reader.read(body, sender, json=json)  # noqa: E731
        export = await self._gate.off_loop.run(len(body), work)
        await keep(self._gate, sender, export, protocol="http")
        return otlp_answers.exported(
            json=json,
            rejected=export.rejected.total(),
            message=rejection_message(export, self._reader.rules),
        )

    async def _refuse_signal(self, body: bytes, signal: Signal, *, json: bool) -> Answer:
        work = lambda: refuse_all(body, signal, json=json)  # noqa: E731
        rejected, message = await self._gate.off_loop.run(len(body), work)
        return otlp_answers.exported(
            json=json, rejected=rejected, message=message, signal=signal.name
        )


class ExportReader:
    """Reads a trace export as OTLP's own doors do, over HTTP and gRPC alike."""

    def __init__(self, rules: SpanRules, most_spans: int) -> None:
        self.rules = rules
        self._most_spans = most_spans

    def read(self, body: bytes, sender: Sender, *, json: bool) -> Export:
        """The spans to keep, without what may not be kept of them. Raises ParsingFault, and TooBig
        for too many spans."""
        wanted = wanted_by(sender.project, ai_only=not sender.project.keep_other_spans)
        try:
            request = to_protobuf(body) if json else body
            export = read_export(request, self.rules, most_spans=self._most_spans, wanted=wanted)
        except MalformedMessage as error:
            raise ParsingFault(f"Invalid protobuf: {error}", code="invalid_protobuf") from None
        except TooManySpans:
            raise TooBig(f"more than {self._most_spans} spans in one request") from None
        return guard(export, redactor_for(sender.project))


async def sender_of(gate: Gate, request: RequestHead) -> Sender:
    """Whose request it is. Raises the refusals of a key, and what the keyring raises."""
    credentials = read_credentials(request.headers)
    project = await gate.project(credentials.token, request.scope)
    credentials.check(project)
    return Sender(
        project=project,
        token=credentials.token,
        address=gate.address(request.scope),
        trace_context=trace_context(request.headers.get(b"traceparent")),
    )


def _head(scope: Scope, headers: dict[bytes, bytes], allow: str) -> RequestHead:
    """As `read_head`; but an empty body is a protobuf message, one without spans."""
    try:
        return read_head(scope, headers, allow)
    except EmptyPayload:
        if _is_json(headers):
            raise
        return RequestHead(headers, 0, scope)


def _is_json(headers: dict[bytes, bytes]) -> bool:
    return headers.get(b"content-type", b"").strip().lower().startswith(otlp_answers.JSON)


def _check_content_type(headers: dict[bytes, bytes]) -> None:
    given = headers.get(b"content-type", b"").strip().lower()
    if not given.startswith((*_PROTOBUF, otlp_answers.JSON)):
        raise UnsupportedMediaType(
            "Content-Type must be application/x-protobuf or application/json"
        )
