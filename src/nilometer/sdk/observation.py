"""A call as it was seen, before anything is worked out: what the caller's thread has time for."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Protocol, Required, TypedDict

from nilometer.sdk.scopes import Scopes

BASE_BYTES = 1500
"""What an observation with a provider's usage object takes, on CPython 3.11."""


class Seen(TypedDict, total=False):
    """What `AIUsageTracker.record` is told of a call; only the first three it must be.

    `usage` is the provider's own object: a mapping, or what its library made of it. It is read
    later, by its `convention` (a name of `conventions.usage.ADAPTERS`) where that is known. It may
    be a `domain.usage.Usage` too. `input_tokens`, `output_tokens` and `total_tokens` are for calls
    without one; a total alone is the input of an embedding, and of any other call in no sum.

    `started_at` is aware; without it the call ended now and took `latency` seconds. `error` says
    that the call failed: the exception, or its text. `cost_usd` is what the caller states that the
    call cost, 0 included, by `price_source`: it counts where no price of the usage is known, and
    stands beside it as the metric's `stated_cost_usd` where one is. `reported_cost_usd` is what the
    provider says. `context` is an earlier `snapshot`, for a stream that ends elsewhere than where
    it began; the scopes (from `job_id` on) come before it. All others are fields of
    `AIUsageMetric`. A call that is told of again by the same `request_id` counts once.
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
    cost_usd: Decimal | int | None
    price_source: str | None
    reported_cost_usd: Decimal | int | None
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


class Observed(Protocol):
    """A call that ended, as the delivery takes it: from then on it does not change."""

    scopes: Scopes
    """The context that it was made in."""
    ended_at: float
    """The wall clock's seconds."""
    size: int
    """About how many bytes of memory it keeps, but for the metadata of its context."""

    @property
    def seen(self) -> Seen:
        """What is known of it. Asked for by a thread in the background."""
        ...


class Observation:
    """What was seen, in which context, and when (the wall clock's seconds)."""

    __slots__ = ("ended_at", "scopes", "seen", "size")

    def __init__(self, seen: Seen, scopes: Scopes, ended_at: float) -> None:
        self.seen = seen
        self.scopes = scopes
        self.ended_at = ended_at
        self.size = BASE_BYTES
        if isinstance(error := seen.get("error"), str):
            self.size += len(error)
        if own := seen.get("metadata"):
            self.size += size_of(own)


def size_of(metadata: Mapping[str, Any]) -> int:
    """About how many bytes of memory metadata takes."""
    return 200 * len(metadata) + sum(
        len(value) for value in metadata.values() if type(value) is str
    )
