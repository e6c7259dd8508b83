"""From accepted events of PostHog's JSON protocols to one log record."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from nilometer.access.types import ProjectConfig
from nilometer.capture.gate import Gate
from nilometer.capture.posthog_events import SentEvent
from nilometer.capture.provenance import UNKNOWN_ADDRESS, trace_context
from nilometer.capture.redaction import (
    kept_address,
    redacted_events,
    redacted_texts,
    redactor_for,
)
from nilometer.capture.request_head import RequestHead
from nilometer.domain.identity import uuid7
from nilometer.domain.posthog_record import DOOR, DOOR_VERSION, PostHogEvent, PostHogRecord
from nilometer.log.envelope import Envelope


async def keep(
    gate: Gate,
    request: RequestHead,
    project: ProjectConfig,
    events: Sequence[SentEvent],
    token: str,
    *,
    protocol: str,
    sent_at: str | None,
    historical: bool,
    engage: bool = False,
    sdk: str | None = None,
) -> bool:
    """Make the events durable, as one record: all or none. False when the project's rules drop
    every one of them.

    The first of a uuid wins, within a batch as anywhere. `token` is the key, which is kept nowhere.
    Raises LogUnavailable and LogFull.
    """
    accepted_at = gate.clock()
    wanted = [each for each in events if each.distinct_id not in project.dropped_distinct_ids]
    if not wanted:
        return False
    internal = all(each.internal for each in wanted)
    address = UNKNOWN_ADDRESS if internal else gate.address(request.scope)
    kept = _events(wanted, token, accepted_at)
    redactor = redactor_for(project)
    if redactor is not None:
        size = sum(len(each.text) for each in kept)
        kept = await gate.off_loop.run(size, partial(redacted_events, kept, redactor))
        sent_at, sdk = redacted_texts(redactor, sent_at, sdk)
    record = PostHogRecord(
        events=kept,
        protocol=protocol,
        sent_at=sent_at,
        ip=kept_address(redactor, address),
        retention_days=project.retention_days,
        engage=engage,
        historical=historical,
        sdk=sdk,
    )
    await gate.recorder.append(
        Envelope(
            project_id=project.project_id,
            uuid=uuid7(accepted_at),
            door=DOOR,
            door_version=DOOR_VERSION,
            accepted_at=accepted_at,
            config_version=project.version,
            payload=record.encode(),
            trace_context=trace_context(request.headers.get(b"traceparent")),
            # A client sends a batch again as it was, or with what came since behind it.
            sequence=wanted[0].uuid or None,
        )
    )
    return True


def _events(sent: Sequence[SentEvent], token: str, now: int) -> tuple[PostHogEvent, ...]:
    kept: dict[str, PostHogEvent] = {}
    for each in sent:
        uuid = each.uuid or uuid7(now)
        if uuid not in kept:
            kept[uuid] = PostHogEvent(uuid, each.without_key(token), each.internal)
    return tuple(kept.values())
