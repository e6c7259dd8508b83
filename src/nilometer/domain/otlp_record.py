"""The payload of a log record of the OTLP doors, version 1: one accepted export request.

One line of JSON that says what the door knew, then an `ExportTraceServiceRequest` with the spans
that were accepted, as protobuf, each as its client sent it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import orjson

from nilometer.domain import otlp_request
from nilometer.domain.ai_record import RecordBroken
from nilometer.domain.otlp_request import ResourceGroup, ScopeGroup
from nilometer.domain.protobuf_wire import MalformedMessage
from nilometer.domain.redaction.marks import Marks, redacted_of, redaction_marks

DOOR = "otlp"
DOOR_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class OtlpRecord:
    """An accepted export request.

    `protocol` is `http`, `grpc` or `posthog`: how it came. `retention_days` is the project's at
    acceptance. `redacted` is how often each redaction rule was applied, by a span's place.
    """

    request: bytes
    protocol: str
    ip: str
    retention_days: int
    redacted: Marks = field(default_factory=dict[int, Mapping[str, int]])

    def encode(self) -> bytes:
        """The payload."""
        head = {
            "protocol": self.protocol,
            "ip": self.ip,
            "retention_days": self.retention_days,
            **redaction_marks(self.redacted),
        }
        return b"".join((orjson.dumps(head), b"\n", self.request))

    def groups(self) -> list[ResourceGroup]:
        """The request's resources. Raises RecordBroken when it is no such request."""
        try:
            return otlp_request.split(self.request)
        except MalformedMessage as error:
            raise RecordBroken(f"the record holds no export request: {error}") from None

    def only(self, index: int) -> OtlpRecord:
        """The record with that one span, counted from 0."""
        for position, (group, scope, span) in enumerate(otlp_request.single_spans(self.groups())):
            if position == index:
                alone = ResourceGroup(group.head, [ScopeGroup(scope.head, [span])])
                marks = {0: self.redacted.get(index, {})}
                return replace(self, request=otlp_request.joined([alone]), redacted=marks)
        raise IndexError("the record has no such span")


def decode(payload: bytes) -> OtlpRecord:
    """The record of a payload. Raises RecordBroken for any other layout."""
    line, newline, request = payload.partition(b"\n")
    try:
        head = cast("dict[str, Any]", orjson.loads(line))
        record = OtlpRecord(
            request=request,
            protocol=str(head["protocol"]),
            ip=str(head["ip"]),
            retention_days=int(head["retention_days"]),
            redacted=redacted_of(head),
        )
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise RecordBroken(
            f"the record's first line is not as version 1 writes it: {error}"
        ) from None
    if not newline:
        raise RecordBroken("the record ends with its first line")
    return record
