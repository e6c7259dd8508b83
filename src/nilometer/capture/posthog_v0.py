"""PostHog's JSON doors of before v1: `/batch`, `/capture`, `/e`, `/i/v0/e`, `/track`, `/engage`,
and `/i/v0/ai/batch` for AI events alone.

The key is in the body. So the room for a body is taken from what nobody's requests may have
together, its size and its decompression are bounded, and it is read once, before the key is known;
then the room is the project's. One event that cannot be accepted refuses all.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from nilometer.capture import answers
from nilometer.capture.admission import UNKNOWN_PROJECT, Reservation
from nilometer.capture.answers import Answer
from nilometer.capture.asgi import Receive, Scope
from nilometer.capture.decompression import DECODERS, GunzipIfGzip
from nilometer.capture.gate import Gate, check_declared, check_mode
from nilometer.capture.part_body import PartBody
from nilometer.capture.posthog_batch import keep
from nilometer.capture.posthog_body import Batch, read_body
from nilometer.capture.posthog_events import EventRules
from nilometer.capture.posthog_payload import Query, json_payload, read_query
from nilometer.capture.refusals import EmptyPayload, MethodNotAllowed
from nilometer.capture.request_head import RequestHead, read_head
from nilometer.domain import clock
from nilometer.domain.posthog_record import DOOR

_ANY_EVENT = ("/batch", "/capture", "/e", "/i/v0/e", "/track")
_PERSONS = "/engage"
_AI_EVENTS = "/i/v0/ai/batch"


class PostHogV0Door:
    """Batches, single events and arrays of them, however wrapped."""

    name = DOOR
    allow = "GET, POST, OPTIONS"

    def __init__(self, gate: Gate) -> None:
        settings = gate.settings
        self._gate = gate
        self._limits = gate.body_limits(settings.max_batch_wire_bytes, settings.max_batch_bytes)
        self._most = settings.max_batch_bytes
        rules = EventRules(settings.max_batch_event_bytes, settings.max_batch_events)
        by_path = dict.fromkeys(_ANY_EVENT, rules) | {
            _PERSONS: replace(rules, engage=True),
            _AI_EVENTS: replace(rules, ai_only=True),
        }
        self._rules = by_path | {f"{path}/": rules for path, rules in by_path.items()}
        self.paths = frozenset(self._rules)

    async def capture(self, scope: Scope, headers: dict[bytes, bytes], receive: Receive) -> Answer:
        """200 `{"status":"Ok"}`; 204 for a page that closes."""
        if scope["method"] not in ("GET", "POST"):
            raise MethodNotAllowed(self.allow)
        query = read_query(scope["query_string"])
        request = self._head(scope, headers, query)
        check_declared(request, self._limits)
        with self._gate.admission.reserve(UNKNOWN_PROJECT, request.declared or 0) as room:
            payload = await self._payload(request, receive, query, room)
            room.grow(2 * len(payload))  # the events' texts stand beside it
            rules = self._rules[scope["path"]]
            work = lambda: self._batch(payload, request, query, rules)  # noqa: E731
            batch = await self._gate.off_loop.run(len(payload), work)
            kept = await self._accept(request, batch, query, room, rules)
        reason = "ok" if kept else "dropped"
        return answers.no_content(reason) if query.beacon else answers.status_ok(reason)

    def dropped(self) -> Answer:
        """The same 200 as for what is kept."""
        return answers.status_ok("dropped")

    def accepted_form(self, headers: dict[bytes, bytes]) -> bytes | None:
        """What the client asks for."""
        return headers.get(b"accept")

    def _head(self, scope: Scope, headers: dict[bytes, bytes], query: Query) -> RequestHead:
        """A request whose payload is in its query needs no body, and another must have one."""
        if query.data:
            return RequestHead(headers, None, scope)
        if scope["method"] == "GET":
            raise EmptyPayload
        return read_head(scope, headers, self.allow)

    async def _payload(
        self, request: RequestHead, receive: Receive, query: Query, room: Reservation
    ) -> bytes:
        if query.data:
            return query.data
        encoding = request.headers.get(b"content-encoding", b"").strip().lower()
        body = PartBody()
        await self._gate.read(
            request,
            receive,
            body.add,
            room,
            decoder=DECODERS.get(encoding, GunzipIfGzip)(),
            limits=self._limits,
        )
        return body.joined()

    def _batch(
        self, payload: bytes, request: RequestHead, query: Query, rules: EventRules
    ) -> Batch:
        content_type = request.headers.get(b"content-type", b"").strip().lower()
        return read_body(json_payload(payload, content_type, query.compression, self._most), rules)

    async def _accept(
        self,
        request: RequestHead,
        batch: Batch,
        query: Query,
        room: Reservation,
        rules: EventRules,
    ) -> bool:
        token = batch.key()
        project = await self._gate.project(token, request.scope)
        room.belongs_to(project.project_id)
        check_mode(project)
        batch.check()
        return await keep(
            self._gate,
            request,
            project,
            batch.events,
            token,
            protocol="v0",
            sent_at=batch.sent_at or _sent_at(query),
            historical=batch.historical,
            engage=rules.engage,
        )


def _sent_at(query: Query) -> str | None:
    if query.sent_at is None:
        return None
    return (clock.EPOCH + timedelta(milliseconds=query.sent_at)).isoformat()
