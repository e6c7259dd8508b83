"""PostHog's JSON doors of v1: `POST /i/v1/analytics/events`, and `/i/v1/ai/events` for AI events
alone.

The key is in a header, and is checked before the body is read. Each event has its own result, by
its uuid: one that cannot be accepted is dropped, with the reason, and the others are kept.
"""

from __future__ import annotations

from dataclasses import replace

from nilometer.capture import answers
from nilometer.capture.admission import Reservation
from nilometer.capture.answers import Answer
from nilometer.capture.asgi import Receive, Scope
from nilometer.capture.authorization import bearer_token
from nilometer.capture.decompression import decoder_for
from nilometer.capture.gate import Gate, check_declared, check_mode
from nilometer.capture.part_body import PartBody
from nilometer.capture.posthog_batch import keep
from nilometer.capture.posthog_body import Batch, read_body
from nilometer.capture.posthog_events import EventRules, SentEvent
from nilometer.capture.refusals import InvalidEvent, ParsingFault
from nilometer.capture.request_head import RequestHead, read_head
from nilometer.domain.posthog_record import DOOR

_ANY_EVENT = "/i/v1/analytics/events"
_AI_EVENTS = "/i/v1/ai/events"
_MAX_HEADER_CHARS = 128


class PostHogV1Door:
    """Batches whose events are answered one by one."""

    name = DOOR
    allow = "POST, OPTIONS"

    def __init__(self, gate: Gate) -> None:
        settings = gate.settings
        self._gate = gate
        self._limits = gate.body_limits(settings.max_batch_wire_bytes, settings.max_batch_bytes)
        rules = EventRules(settings.max_batch_event_bytes, settings.max_batch_events)
        by_path = {_ANY_EVENT: rules, _AI_EVENTS: replace(rules, ai_only=True)}
        self._rules = by_path | {f"{path}/": rules for path, rules in by_path.items()}
        self.paths = frozenset(self._rules)

    async def capture(self, scope: Scope, headers: dict[bytes, bytes], receive: Receive) -> Answer:
        """200 with a result for each event."""
        request = read_head(scope, headers, self.allow)
        check_declared(request, self._limits)
        token = bearer_token(headers.get(b"authorization"))
        project = await self._gate.project(token, scope)
        check_mode(project)
        rules = self._rules[scope["path"]]
        room = self._gate.admission.reserve(project.project_id, request.declared or 0)
        with room as reservation:
            body = await self._body(request, receive, reservation)
            reservation.grow(2 * len(body))  # the events' texts stand beside it
            batch = await self._gate.off_loop.run(len(body), lambda: _batch(body, rules))
            await keep(
                self._gate,
                request,
                project,
                [event for event in batch.events if event.fault is None],
                token,
                protocol="v1",
                sent_at=_header(headers, b"posthog-request-timestamp"),
                historical=batch.historical,
                sdk=_header(headers, b"posthog-sdk-info"),
            )
        return answers.results({event.sent_uuid: _result(event) for event in batch.events})

    def dropped(self) -> Answer:
        """No result for any event, which means that there is nothing to do about any."""
        return answers.results({})

    def accepted_form(self, headers: dict[bytes, bytes]) -> bytes | None:
        """Always JSON: its SDKs show the `detail`."""
        del headers
        return b"application/json"

    async def _body(self, request: RequestHead, receive: Receive, room: Reservation) -> bytes:
        body = PartBody()
        decoder = decoder_for(request.headers.get(b"content-encoding", b""))
        await self._gate.read(
            request, receive, body.add, room, decoder=decoder, limits=self._limits
        )
        return body.joined()


def _batch(body: bytes, rules: EventRules) -> Batch:
    """Events that cannot be named in the answer refuse the whole request."""
    batch = read_body(body, rules)
    if not batch.events:
        raise InvalidEvent("request holds no event", code="empty_batch")
    for event in batch.events:
        if not event.sent_uuid:
            raise ParsingFault("Event UUID is required", code="missing_uuid", attr="uuid")
        if event.fault is not None and event.fault.code == "invalid_uuid":
            raise event.fault
    return batch


def _result(event: SentEvent) -> dict[str, str | None]:
    if event.fault is None:
        return {"result": "ok", "details": None}
    return {"result": "drop", "details": event.fault.detail}


def _header(headers: dict[bytes, bytes], name: bytes) -> str | None:
    value = headers.get(name, b"").decode("latin-1").strip()
    return value if value and len(value) <= _MAX_HEADER_CHARS else None
