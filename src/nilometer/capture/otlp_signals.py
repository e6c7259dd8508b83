"""Metrics and logs of OTLP: read only to say how many were not kept.

Exporters of whole agents are set up to send all three signals to one place. A 404 is an error in
the sender's log every few seconds; silence would be a lie. OTLP has the answer: partial success.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import orjson

from nilometer.capture.refusals import ParsingFault
from nilometer.domain.protobuf_wire import MalformedMessage, count
from nilometer.observability.metrics import OTLP_REJECTED


@dataclass(frozen=True, slots=True)
class Signal:
    """A signal that is not kept: where its items are in a request, by number and by JSON name."""

    name: str
    path: tuple[frozenset[int], ...]
    members: tuple[frozenset[str], ...]
    items: str


_DATA = frozenset({"gauge", "sum", "histogram", "exponentialHistogram", "summary"})

LOGS = Signal(
    "logs",
    (frozenset({1}), frozenset({2}), frozenset({2})),
    (frozenset({"resourceLogs"}), frozenset({"scopeLogs"}), frozenset({"logRecords"})),
    "log records",
)
METRICS = Signal(
    "metrics",
    (*LOGS.path, frozenset({5, 7, 9, 10, 11}), frozenset({1})),
    (
        frozenset({"resourceMetrics"}),
        frozenset({"scopeMetrics"}),
        frozenset({"metrics"}),
        _DATA,
        frozenset({"dataPoints"}),
    ),
    "data points",
)
OTHER_SIGNALS = (METRICS, LOGS)


def refuse_all(body: bytes, signal: Signal, *, json: bool) -> tuple[int, str]:
    """How many items a request has, and what to tell its sender. Raises ParsingFault."""
    rejected = _in_json(body, signal) if json else _in_protobuf(body, signal)
    if not rejected:
        return 0, ""
    OTLP_REJECTED.labels(signal.name).inc(rejected)
    return rejected, (
        f"Nilometer keeps traces: none of these {rejected} {signal.items} is kept. Set "
        f"OTEL_{signal.name.upper()}_EXPORTER=none, or another endpoint for them."
    )


def _in_protobuf(body: bytes, signal: Signal) -> int:
    try:
        return count(body, 0, len(body), signal.path)
    except MalformedMessage as error:
        raise ParsingFault(f"Invalid protobuf: {error}", code="invalid_protobuf") from None


def _in_json(body: bytes, signal: Signal) -> int:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ParsingFault(f"Invalid JSON: {error}", code="invalid_json") from None
    found: list[Any] = [value]
    for names in signal.members:
        found = [each for holder in found for each in _members(holder, names)]
    return len(found)


def _members(holder: Any, names: frozenset[str]) -> Iterator[Any]:
    if not isinstance(holder, dict):
        return
    for name, value in cast("dict[str, Any]", holder).items():
        if name in names:
            yield from cast("list[Any]", value) if isinstance(value, list) else [value]
