"""The door of LiteLLM's `generic_api` callback: `POST /integrations/litellm`.

LiteLLM deletes a batch once it has sent it, whatever the answer is, so what is good in a batch is
kept, and what is bad becomes dead letters. Keys, headers and addresses of callers are left out
before anything is written.
"""

from __future__ import annotations

from functools import partial

from nilometer.access.types import ProjectConfig
from nilometer.capture import answers
from nilometer.capture.admission import Reservation
from nilometer.capture.answers import Answer
from nilometer.capture.asgi import Receive, Scope
from nilometer.capture.authorization import bearer_token
from nilometer.capture.decompression import decoder_for
from nilometer.capture.gate import Gate, check_declared, check_mode
from nilometer.capture.litellm_payloads import PayloadRules, read_payloads
from nilometer.capture.part_body import PartBody
from nilometer.capture.provenance import trace_context
from nilometer.capture.redaction import kept_address, redacted_payloads, redactor_for
from nilometer.capture.refusals import Dropped
from nilometer.capture.request_head import RequestHead, read_head
from nilometer.domain.identity import uuid7
from nilometer.domain.litellm_record import DOOR, DOOR_VERSION, LiteLLMItem, LiteLLMRecord
from nilometer.domain.redaction.redactor import Redactor
from nilometer.log.envelope import Envelope

_PATH = "/integrations/litellm"


class LiteLLMDoor:
    """Payloads as an array, one a line, or alone."""

    name = DOOR
    allow = "POST, OPTIONS"
    paths = frozenset({_PATH, f"{_PATH}/"})

    def __init__(self, gate: Gate) -> None:
        settings = gate.settings
        self._gate = gate
        self._limits = gate.body_limits(settings.max_batch_wire_bytes, settings.max_batch_bytes)
        self._rules = PayloadRules(settings.max_batch_event_bytes, settings.max_batch_events)

    async def capture(self, scope: Scope, headers: dict[bytes, bytes], receive: Receive) -> Answer:
        """200 with how many payloads were accepted, and what is wrong with the others."""
        request = read_head(scope, headers, self.allow)
        check_declared(request, self._limits)
        token = bearer_token(headers.get(b"authorization"))
        project = await self._gate.project(token, scope)
        check_mode(project)
        room = self._gate.admission.reserve(project.project_id, request.declared or 0)
        with room as reservation:
            body = await self._body(request, receive, reservation)
            reservation.grow(2 * len(body))  # the payloads' texts stand beside it
            work = lambda: read_payloads(body, self._rules, project.dropped_distinct_ids)  # noqa: E731
            payloads = await self._gate.off_loop.run(len(body), work)
            if not payloads.items:
                raise Dropped
            items, redactor = payloads.items, redactor_for(project)
            if redactor is not None:
                redact = partial(redacted_payloads, items, redactor)
                items = await self._gate.off_loop.run(len(body), redact)
            await self._append(request, project, items, redactor)
        return answers.counted(payloads.accepted, payloads.faults)

    def dropped(self) -> Answer:
        """None accepted, nothing wrong: there is nothing to do about it."""
        return answers.counted(0, {}, reason="dropped")

    def accepted_form(self, headers: dict[bytes, bytes]) -> bytes | None:
        """Always JSON, like the answer."""
        del headers
        return b"application/json"

    async def _body(self, request: RequestHead, receive: Receive, room: Reservation) -> bytes:
        body = PartBody()
        decoder = decoder_for(request.headers.get(b"content-encoding", b""))
        await self._gate.read(
            request, receive, body.add, room, decoder=decoder, limits=self._limits
        )
        return body.joined()

    async def _append(
        self,
        request: RequestHead,
        project: ProjectConfig,
        items: tuple[LiteLLMItem, ...],
        redactor: Redactor | None,
    ) -> None:
        accepted_at = self._gate.clock()
        record = LiteLLMRecord(
            items=items,
            ip=kept_address(redactor, self._gate.address(request.scope)),
            retention_days=project.retention_days,
        )
        await self._gate.recorder.append(
            Envelope(
                project_id=project.project_id,
                uuid=uuid7(accepted_at),
                door=DOOR,
                door_version=DOOR_VERSION,
                accepted_at=accepted_at,
                config_version=project.version,
                payload=record.encode(),
                trace_context=trace_context(request.headers.get(b"traceparent")),
            )
        )
