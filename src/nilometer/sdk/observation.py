"""A call as it was seen, before anything is worked out: what the caller's thread has time for."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Required, TypedDict

from nilometer.sdk.scopes import Scopes

_BASE_BYTES = 1500
"""What an observation with a provider's usage object takes, on CPython 3.11."""


class Seen(TypedDict, total=False):
    """What `AIUsageTracker.record` is told of a call; only the first three it must be.

    `usage` is the provider's own object: a mapping, or what its library made of it. It is read
    later, by its `convention` (a name of `conventions.usage.ADAPTERS`) where that is known. It may
    be a `domain.usage.Usage` too. `input_tokens`, `output_tokens` and `total_tokens` are for calls
    without one.

    `started_at` is aware; without it the call ended now and took `latency` seconds. `error` says
    that the call failed: the exception, or its text. `cost_usd` is for calls whose cost the caller
    knows, by `price_source`; `reported_cost_usd` is what the provider says. `context` is an earlier
    `snapshot`, for a stream that ends elsewhere than where it began; the scopes (from `job_id` on)
    come before it. All others are fields of `AIUsageMetric`.
    """

    service: Required[str]
    model: Required[str]
    operation: Required[str]
    usage: Any
    convention: str | None
    started_at: datetime | None
    latency: float | None
    time_to_first_token: float | None
    error: BaseException | str | None
    error_type: str | None
    http_status: int | None
    retries: int
    provider_request_id: str | None
    response_id: str | None
    requested_model: str | None
    service_tier: str | None
    region: str | None
    stream: bool
    estimated: bool
    api_calls: int
    input_tokens: int | None
    output_tokens: int | None
    total_tokens: int | None
    cost_usd: Decimal | None
    price_source: str | None
    reported_cost_usd: Decimal | None
    request_id: str | None
    metadata: Mapping[str, Any] | None
    context: Scopes | None
    job_id: str | None
    batch_id: str | None
    user_id: str | None
    environment: str | None
    developer: str | None
    repository: str | None
    github_pr: int | None
    tags: Any


class Observation:
    """What was seen, in which context, and when (the wall clock's seconds)."""

    __slots__ = ("ended_at", "scopes", "seen")

    def __init__(self, seen: Seen, scopes: Scopes, ended_at: float) -> None:
        self.seen = seen
        self.scopes = scopes
        self.ended_at = ended_at

    def size(self) -> int:
        """About how many bytes of memory it keeps."""
        size = _BASE_BYTES
        if isinstance(error := self.seen.get("error"), str):
            size += len(error)
        if own := self.seen.get("metadata"):
            size += _size(own)
        if shared := self.scopes.metadata:
            size += _size(shared)
        return size


def _size(metadata: Mapping[str, Any]) -> int:
    return 200 * len(metadata) + sum(
        len(value) for value in metadata.values() if type(value) is str
    )
