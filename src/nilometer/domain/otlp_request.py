"""An export request of OTLP traces, taken apart to its spans and put together, none of them read.

`ExportTraceServiceRequest` (opentelemetry-proto 1.x) is resources, in them scopes, in them spans.
Apart, each span is its own bytes: a broken one harms no other, and memory is needed for one span
at a time, however many there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nilometer.domain.protobuf_wire import LENGTH_DELIMITED, field, fields

_RESOURCE_SPANS = 1  # of ExportTraceServiceRequest
_SCOPE_SPANS = 2  # of ResourceSpans
_SPANS = 2  # of ScopeSpans


class TooManySpans(ValueError):
    """The request has more spans than are looked at."""


@dataclass(slots=True)
class ScopeGroup:
    """The spans of one scope; `head` is the fields of its message that are no spans."""

    head: bytes
    spans: list[bytes]


@dataclass(slots=True)
class ResourceGroup:
    """The scopes of one resource; `head` as in `ScopeGroup`."""

    head: bytes
    scopes: list[ScopeGroup]


def split(request: bytes, most: int | None = None) -> list[ResourceGroup]:
    """A request's resources. Raises MalformedMessage, and TooManySpans beyond `most` spans."""
    groups: list[ResourceGroup] = []
    room = most
    for number, kind, _, begin, end in fields(request, 0, len(request)):
        if number == _RESOURCE_SPANS and kind == LENGTH_DELIMITED:
            group = _resource_group(request, begin, end, room)
            if room is not None:
                room -= sum(len(scope.spans) for scope in group.scopes)
            groups.append(group)
    return groups


def joined(groups: list[ResourceGroup]) -> bytes:
    """The request that `split` would take apart so, without resources and scopes that have no
    spans."""
    return b"".join(
        field(_RESOURCE_SPANS, group.head + scopes)
        for group in groups
        if (scopes := b"".join(map(_scope_spans, group.scopes)))
    )


def single_spans(groups: list[ResourceGroup]) -> Iterator[tuple[ResourceGroup, ScopeGroup, bytes]]:
    """Each span with whose it is, in the request's order."""
    for group in groups:
        for scope in group.scopes:
            for span in scope.spans:
                yield group, scope, span


def _scope_spans(scope: ScopeGroup) -> bytes:
    if not scope.spans:
        return b""
    return field(_SCOPE_SPANS, scope.head + b"".join(field(_SPANS, span) for span in scope.spans))


def _resource_group(request: bytes, start: int, stop: int, room: int | None) -> ResourceGroup:
    group = ResourceGroup(b"", [])
    head: list[bytes] = []
    for number, kind, first, begin, end in fields(request, start, stop):
        if number == _SCOPE_SPANS and kind == LENGTH_DELIMITED:
            scope = _scope_group(request, begin, end, room)
            if room is not None:
                room -= len(scope.spans)
            group.scopes.append(scope)
        else:
            head.append(request[first:end])
    group.head = b"".join(head)
    return group


def _scope_group(request: bytes, start: int, stop: int, room: int | None) -> ScopeGroup:
    head: list[bytes] = []
    spans: list[bytes] = []
    for number, kind, first, begin, end in fields(request, start, stop):
        if number == _SPANS and kind == LENGTH_DELIMITED:
            if room is not None and len(spans) >= room:
                raise TooManySpans
            spans.append(request[begin:end])
        else:
            head.append(request[first:end])
    return ScopeGroup(b"".join(head), spans)
