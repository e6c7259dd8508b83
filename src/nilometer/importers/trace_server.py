"""A server that calls of trace files are sent to, by its `/batch` door.

The client library's metrics know no session, trace or gateway. A call of a trace file has them in
its notes (`NAMED`), and here they become the properties by which the server knows them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import httpx

from nilometer.domain.usage_metric import AIUsageMetric
from nilometer.errors import Unavailable
from nilometer.sdk.sinks.http import HttpSink
from nilometer.sdk.sinks.port import Failed

NAMED = {
    "session_id": "$ai_session_id",
    "trace_id": "$ai_trace_id",
    "litellm_call_id": "litellm_call_id",
    "cache_hit": "$ai_cache_hit",
}
"""The property of each note that has one. LiteLLM's callback tells of a call under the same ids: a
call that was sent by it and is in a file too counts once."""


class TraceServer(HttpSink):
    """As `HttpSink`. Its name is its own, and so is its spool: another process that took these
    metrics over would leave the notes where they are."""

    def __init__(
        self, url: str, api_key: str, *, transport: httpx.BaseTransport | None = None
    ) -> None:
        super().__init__(url, api_key, transport=transport)
        self.name = f"traces:{self.name}"
        self.refuses_key = False
        """Whether the last answer said so: waiting helps nothing then."""

    def store(self, metrics: Sequence[AIUsageMetric]) -> Sequence[Failed]:
        """As `HttpSink`."""
        try:
            failed = super().store(metrics)
        except Unavailable as error:
            self.refuses_key = error.code == "key_refused"
            raise
        self.refuses_key = False
        return failed

    def event_of(self, metric: AIUsageMetric) -> dict[str, Any]:
        """As `HttpSink`, with the notes that have a name of their own under it."""
        found = super().event_of(metric)
        properties = found["properties"]
        notes = dict(properties.pop("$ai_metadata", {}))
        properties |= {name: notes.pop(note) for note, name in NAMED.items() if note in notes}
        if notes:
            properties["$ai_metadata"] = notes
        return found
