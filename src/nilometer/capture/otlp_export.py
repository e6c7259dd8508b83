"""From the bytes of an export request to the spans of it that are kept, and why others are not.

Pure: no waiting, no state. One span is in memory at a time, as its message.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage

from nilometer.capture.otlp_weight import (
    MAX_PARTS,
    RESOURCE_SPANS,
    SCOPE_SPANS,
    SPAN,
    too_many_parts,
)
from nilometer.domain import otlp_request
from nilometer.domain.otlp_request import ResourceGroup, ScopeGroup
from nilometer.domain.otlp_span import SpanDecoder, span_message
from nilometer.domain.protobuf_wire import MalformedMessage
from nilometer.domain.redaction.marks import Marks
from nilometer.domain.span import Span

MAX_HEAD_BYTES = 64 * 1024
"""What a resource, or a scope, may say of itself: it is kept with each of its spans."""
MAX_REPEATED_BYTES = 64 * 1024 * 1024
"""The same, times the spans that it is kept with, of one request."""


@dataclass(frozen=True, slots=True)
class SpanRules:
    """What a span must be. `checked_ids` is False for a protocol that takes any id."""

    most_bytes: int
    checked_ids: bool = True


@dataclass(slots=True)
class Export:
    """What is left of a request. `request` is protobuf, with `kept` spans.

    `rejected` counts the others by reason, a key of `sentences`; `unwanted` those that the project
    does not keep. `malformed` is what was wrong with the first one of that reason. `redacted` is
    how often each redaction rule was applied, by the place of a span that is kept.
    """

    request: bytes = b""
    kept: int = 0
    unwanted: int = 0
    rejected: Counter[str] = field(default_factory=Counter[str])
    malformed: str = ""
    redacted: Marks = field(default_factory=dict[int, Mapping[str, int]])

    @property
    def total(self) -> int:
        """Spans of the request."""
        return self.kept + self.unwanted + self.rejected.total()


def sentences(rules: SpanRules) -> Mapping[str, str]:
    """What each reason means, for whoever sent the span."""
    return {
        "invalid_id": "with a trace, span or parent id that is zero or not of 16, 8 and 8 bytes",
        "too_large": f"larger than {rules.most_bytes} bytes",
        "too_many_parts": f"with more than {MAX_PARTS} attributes, values, events and links",
        "malformed": "that cannot be decoded, or nested too deep",
        "large_resource": f"whose resource or scope is larger than {MAX_HEAD_BYTES} bytes, or has "
        f"more than {MAX_PARTS} attributes",
        "repeated_resource": "whose resource would be kept too often in one request; send fewer "
        "spans at once",
    }


def rejection_message(export: Export, rules: SpanRules) -> str:
    """One sentence on the spans that were rejected; "" when none was."""
    if not export.rejected:
        return ""
    told = sentences(rules)
    reasons = "; ".join(f"{count} {told[reason]}" for reason, count in export.rejected.items())
    return f"{export.rejected.total()} of {export.total} spans were rejected: {reasons}"


def read_export(
    request: bytes,
    rules: SpanRules,
    *,
    most_spans: int,
    wanted: Callable[[Span], bool] | None = None,
) -> Export:
    """Check every span of a protobuf request. `wanted` says which of them the project keeps.

    Raises MalformedMessage when the request cannot be taken apart, TooManySpans beyond
    `most_spans`.
    """
    groups = otlp_request.split(request, most_spans)
    check = _Check(rules, wanted)
    for group in groups:
        for scope in group.scopes:
            check.scope(group, scope)
    export = check.export
    untouched = export.kept == export.total
    export.request = request if untouched else otlp_request.joined(groups)
    return export


class _Check:
    """Takes the spans that are not kept out of their groups, and counts them."""

    def __init__(self, rules: SpanRules, wanted: Callable[[Span], bool] | None) -> None:
        self.export = Export()
        self._rules = rules
        self._wanted = wanted
        self._decoder = SpanDecoder()
        self._repeated = 0

    def scope(self, group: ResourceGroup, scope: ScopeGroup) -> None:
        fault = self._head_fault(group, scope) if scope.spans else ""
        if fault:
            self.export.rejected[fault] += len(scope.spans)
            scope.spans = []
            return
        size = len(group.head) + len(scope.head)
        scope.spans = [span for span in scope.spans if self._keeps(group, scope, span, size)]
        self.export.kept += len(scope.spans)

    def _keeps(self, group: ResourceGroup, scope: ScopeGroup, span: bytes, head: int) -> bool:
        try:
            fault, message = self._fault(span, head)
            if not fault and not self._is_wanted(group, scope, message):
                self.export.unwanted += 1
                return False
        except MalformedMessage as error:
            fault = self._malformed(error)
        if fault:
            self.export.rejected[fault] += 1
            return False
        self._repeated += head
        return True

    def _fault(self, span: bytes, head: int) -> tuple[str, SpanMessage | None]:
        """Why a span is refused, or "" and its message."""
        if len(span) > self._rules.most_bytes:
            return "too_large", None
        if self._repeated + head > MAX_REPEATED_BYTES:
            return "repeated_resource", None
        if too_many_parts(span, SPAN):
            return "too_many_parts", None
        message = span_message(span)
        valid = not self._rules.checked_ids or _ids_are_valid(message)
        return "" if valid else "invalid_id", message

    def _is_wanted(
        self, group: ResourceGroup, scope: ScopeGroup, message: SpanMessage | None
    ) -> bool:
        if self._wanted is None or message is None:
            return True
        return self._wanted(self._decoder.span(group.head, scope.head, message))

    def _head_fault(self, group: ResourceGroup, scope: ScopeGroup) -> str:
        if max(len(group.head), len(scope.head)) > MAX_HEAD_BYTES:
            return "large_resource"
        try:
            if too_many_parts(group.head, RESOURCE_SPANS) or too_many_parts(
                scope.head, SCOPE_SPANS
            ):
                return "large_resource"
            self._decoder.resource(group.head)
            self._decoder.scope(scope.head)
        except MalformedMessage as error:
            return self._malformed(error)
        return ""

    def _malformed(self, error: MalformedMessage) -> str:
        self.export.malformed = self.export.malformed or str(error)
        return "malformed"


def _ids_are_valid(message: SpanMessage) -> bool:
    """A parent of zero bytes, or of zeros, is none."""
    return (
        len(message.trace_id) == 16
        and len(message.span_id) == 8
        and len(message.parent_span_id) in (0, 8)
        and any(message.trace_id)
        and any(message.span_id)
    )
