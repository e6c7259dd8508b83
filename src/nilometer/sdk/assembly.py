"""From an observation to a metric: the usage is read, the price looked up, the scopes joined. Done
by the background writer, so that no call waits for it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from nilometer.domain.usage import TokenVector, Usage
from nilometer.domain.usage_metric import COUNTED, AIUsageMetric
from nilometer.sdk import loose_values
from nilometer.sdk.calculator import CostCalculator
from nilometer.sdk.observation import Observation
from nilometer.sdk.scopes import Scopes

FAILED = "failed_call"
"""Why a call that failed without a usage has no cost."""

GIVEN = "caller"
"""The price's source where the caller said what a call cost."""


class Assembler:
    """Makes metrics. `process` are the scopes of everything in this process; without a calculator
    nothing is priced, because the store does it."""

    def __init__(self, process: Scopes, calculator: CostCalculator | None) -> None:
        self._process = process
        self._calculator = calculator

    def metric(self, seen: Observation) -> AIUsageMetric:
        """The metric of an observation. Raises InvalidInput for what is none."""
        started_at = seen.started_at or _started(seen)
        usage = _usage(seen)
        scopes = seen.scopes.changed(seen.own).within(self._process)
        given: dict[str, Any] = {} if seen.request_id is None else {"request_id": seen.request_id}
        return AIUsageMetric(
            service=loose_values.name(seen.service) or "",
            model=loose_values.name(seen.model) or "",
            operation=loose_values.name(seen.operation) or "",
            timestamp=started_at,
            provider_request_id=loose_values.name(seen.provider_request_id),
            response_id=loose_values.name(seen.response_id),
            requested_model=loose_values.name(seen.requested_model),
            service_tier=loose_values.name(seen.service_tier),
            region=loose_values.name(seen.region),
            api_calls=seen.api_calls,
            usage=usage,
            total_tokens=_total(seen, usage),
            estimated=seen.estimated,
            stream=seen.stream,
            reported_cost_usd=seen.reported_cost_usd,
            latency=seen.latency,
            time_to_first_token=seen.time_to_first_token,
            status="success" if seen.error is None else "error",
            error=None if seen.error is None else loose_values.error_text(seen.error),
            error_type=loose_values.name(seen.error_type),
            http_status=seen.http_status,
            retries=seen.retries,
            **given,
            **self._cost(seen, usage, started_at),
            **_scopes(scopes, seen),
        )

    def _cost(self, seen: Observation, usage: Usage | None, at: datetime) -> dict[str, Any]:
        if seen.cost_usd is not None:
            return {"cost_usd": seen.cost_usd, "price_source": seen.price_source or GIVEN}
        if seen.error is not None and (usage is None or usage.vector is None):
            return {"unpriced_reason": FAILED}
        if self._calculator is None:
            return {}
        cost = self._calculator.of(
            usage or Usage(vector=None, convention="", reason="not_reported"),
            service=seen.service,
            model=seen.model,
            at=at,
            tier=seen.service_tier or "",
            region=seen.region or "",
        )
        return {
            "cost_usd": cost.total,
            "cost_components": cost.components,
            "unpriced_reason": cost.reason,
            "price_source": cost.source,
            "price_version": cost.version,
            "price_as_of": cost.as_of,
            "resolved_service": cost.service,
            "resolved_model": cost.model,
        }


def _started(seen: Observation) -> datetime:
    ended = datetime.fromtimestamp(seen.ended_at, UTC)
    return ended - timedelta(seconds=seen.latency) if seen.latency else ended


def _usage(seen: Observation) -> Usage | None:
    """What the call consumed: by the convention of its source, else by the caller's counts. None
    where nobody says."""
    read = seen.usage if isinstance(seen.usage, Usage) else _read(seen)
    if (read is None or read.vector is None) and _counted(seen):
        vector = TokenVector(
            uncached_input=seen.input_tokens or 0, text_output=seen.output_tokens or 0
        )
        counted = read or Usage(vector=vector, convention=COUNTED)
        return replace(counted, vector=vector, convention=COUNTED, reason="")
    return read


def _read(seen: Observation) -> Usage | None:
    raw = None if seen.usage is None else loose_values.raw_usage(seen.usage)
    if raw is None:
        return None
    from nilometer.conventions.usage import read  # its tables are loaded with the first call

    found = read(
        {"$ai_usage": raw, "$ai_model": seen.model},
        provider=seen.service.strip().lower(),
        model=seen.model,
        event="$ai_embedding" if seen.operation.startswith("embed") else "$ai_generation",
        convention=seen.convention,
    )
    return replace(found, raw=raw)


def _counted(seen: Observation) -> bool:
    return seen.input_tokens is not None or seen.output_tokens is not None


def _total(seen: Observation, usage: Usage | None) -> int | None:
    """The caller's total, where nothing says what it is made of."""
    return seen.total_tokens if usage is None or usage.vector is None else None


def _scopes(scopes: Scopes, seen: Observation) -> dict[str, Any]:
    return {
        "user_id": loose_values.name(scopes.user_id),
        "job_id": loose_values.name(scopes.job_id),
        "batch_id": loose_values.name(scopes.batch_id),
        "environment": loose_values.name(scopes.environment),
        "developer": loose_values.name(scopes.developer),
        "repository": loose_values.name(scopes.repository),
        "tags": tuple(filter(None, (loose_values.name(tag) for tag in scopes.tags[:64]))),
        "github_pr": scopes.github_pr,
        "metadata": loose_values.metadata({**scopes.metadata, **(seen.metadata or {})}),
    }
