"""What every OTLP door does with an export request once it has its bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nilometer.access.types import ProjectConfig
from nilometer.capture.gate import Gate
from nilometer.capture.otlp_export import Export
from nilometer.capture.redaction import kept_address, redactor_for
from nilometer.conventions import spans
from nilometer.conventions.spans.detection import is_ai
from nilometer.domain.identity import uuid7
from nilometer.domain.otlp_record import DOOR, DOOR_VERSION, OtlpRecord
from nilometer.domain.span import Span
from nilometer.log.envelope import Envelope
from nilometer.observability.metrics import OTLP_REJECTED


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sent a request: the key, which is kept nowhere, and what is known besides."""

    project: ProjectConfig
    token: str
    address: str
    trace_context: str | None


async def keep(gate: Gate, sender: Sender, export: Export, *, protocol: str) -> None:
    """Make the spans that were accepted, and guarded, durable, as one record. Raises
    LogUnavailable and LogFull."""
    _count(export)
    if not export.kept:
        return
    accepted_at = gate.clock()
    record = OtlpRecord(
        request=_without_key(export.request, sender.token),
        protocol=protocol,
        ip=kept_address(redactor_for(sender.project), sender.address),
        retention_days=sender.project.retention_days,
        redacted=export.redacted,
    )
    await gate.recorder.append(
        Envelope(
            project_id=sender.project.project_id,
            uuid=uuid7(accepted_at),
            door=DOOR,
            door_version=DOOR_VERSION,
            accepted_at=accepted_at,
            config_version=sender.project.version,
            payload=record.encode(),
            trace_context=sender.trace_context,
        )
    )


def wanted_by(project: ProjectConfig, *, ai_only: bool) -> Callable[[Span], bool] | None:
    """Which spans the project keeps; None for all, which costs nothing."""
    if not ai_only and not project.dropped_distinct_ids:
        return None
    dropped = project.dropped_distinct_ids

    def wanted(span: Span) -> bool:
        if ai_only and not is_ai(span.attributes, span.scope_name):
            return False
        return not dropped or spans.convert(span).distinct_id not in dropped

    return wanted


def _without_key(request: bytes, token: str) -> bytes:
    """A span can tell of a request with its headers, this one's among them. As many stars keep the
    message what it is."""
    key = token.encode()
    return request.replace(key, b"*" * len(key)) if key in request else request


def _count(export: Export) -> None:
    for reason, count in export.rejected.items():
        OTLP_REJECTED.labels(reason).inc(count)
    if export.unwanted:
        OTLP_REJECTED.labels("unwanted").inc(export.unwanted)
