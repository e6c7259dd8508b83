"""A call as it was seen, before anything is worked out: what the caller's thread has time for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from nilometer.sdk.scopes import Scopes

_BASE_BYTES = 1500
"""What an observation with a provider's usage object takes, on CPython 3.11."""


@dataclass(slots=True, kw_only=True)
class Observation:
    """The arguments of `AIUsageTracker.record`, which describes them. `ended_at` is the wall
    clock's seconds; `scopes` was the context; `own` are scopes given with the call itself."""

    service: str
    model: str
    operation: str
    usage: Any
    convention: str | None
    started_at: datetime | None
    ended_at: float
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
    scopes: Scopes
    own: Mapping[str, Any]

    def size(self) -> int:
        """About how many bytes of memory it keeps."""
        size = _BASE_BYTES
        if isinstance(self.error, str):
            size += len(self.error)
        if self.metadata:
            size += _size(self.metadata)
        if self.scopes.metadata:
            size += _size(self.scopes.metadata)
        return size


def _size(metadata: Mapping[str, Any]) -> int:
    return 200 * len(metadata) + sum(
        len(value) for value in metadata.values() if type(value) is str
    )
