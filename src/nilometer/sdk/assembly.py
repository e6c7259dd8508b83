"""From an observation to a metric: the usage is read, the price looked up, the scopes joined. Done
by the background writer, so that no call waits for it."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from nilometer.domain.metric_rules import MAX_TAGS
from nilometer.domain.usage import TokenVector, Usage
from nilometer.domain.usage_metric import COUNTED, AIUsageMetric
from nilometer.errors import InvalidInput, NilometerError
from nilometer.sdk import loose_values
from nilometer.sdk.calculator import Cost, CostCalculator
from nilometer.sdk.observation import Observed, Seen
from nilometer.sdk.scopes import Scopes
from nilometer.sdk.seldom import Seldom

_LOG = logging.getLogger(__name__)

FAILED = "failed_call"
"""Why a call that failed without a usage has no cost."""

PRICE_FAILED = "price_failed"
"""Why a call has none whose price could not be worked out: the log says what was in the way."""

GIVEN = "caller"
"""The price's source where the caller said what a call cost, and not by which price."""

_AS_SEEN = (
    *("api_calls", "estimated", "stream", "reported_cost_usd", "latency", "time_to_first_token"),
    *("http_status", "retries", "request_id"),
)
_NAMES = (
    *("provider_request_id", "response_id", "requested_model", "service_tier", "region"),
    "error_type",
)
_SCOPES = (
    *("job_id", "batch_id", "user_id", "environment", "developer", "repository", "github_pr"),
    "tags",
)
_KNOWN = frozenset(Seen.__annotations__)


class Assembler:
    """Makes metrics. `process` are the scopes of everything in this process; without a calculator
    nothing is priced, because the store does it."""

    def __init__(self, process: Scopes, calculator: CostCalculator | None) -> None:
        self._process = process
        self._calculator = calculator
        self._seldom = Seldom(_LOG)

    def metric(self, observed: Observed) -> AIUsageMetric:
        """The metric of an observation. Raises InvalidInput for what is none."""
        seen = observed.seen
        if unknown := seen.keys() - _KNOWN:
            raise InvalidInput(f"there is no {min(unknown)}", attr=min(unknown))
        started_at = seen.get("started_at") or _started(observed)
        usage = _usage(seen)
        error = seen.get("error")
        fields: dict[str, Any] = {
            name: seen[name] for name in _AS_SEEN if seen.get(name) is not None
        }
        fields["id_given"] = "request_id" in fields
        fields |= {name: loose_values.name(seen.get(name)) for name in _NAMES}
        fields |= self._cost(seen, usage, started_at)
        fields |= self._scopes(observed)
        if usage is None or usage.vector is None:
            fields["total_tokens"] = seen.get("total_tokens")
        return AIUsageMetric(
            service=loose_values.name(seen.get("service")) or "",
            model=loose_values.name(seen.get("model")) or "",
            operation=loose_values.name(seen.get("operation")) or "",
            timestamp=started_at,
            usage=usage,
            status="success" if error is None else "error",
            error=None if error is None else loose_values.error_text(error),
            **fields,
        )

    def _cost(self, seen: Seen, usage: Usage | None, at: datetime) -> dict[str, Any]:
        """What the usage costs; where nothing prices it, what the caller states."""
        stated = seen.get("cost_usd")
        found = self._computed(seen, usage, at)
        if stated is None:
            return found
        if found.get("cost_usd") is None:
            return {"cost_usd": stated, "price_source": seen.get("price_source") or GIVEN}
        return found | {"stated_cost_usd": stated}

    def _computed(self, seen: Seen, usage: Usage | None, at: datetime) -> dict[str, Any]:
        if seen.get("error") is not None and (usage is None or usage.vector is None):
            return {"unpriced_reason": FAILED}
        if self._calculator is None:
            return {}
        cost = self._price(self._calculator, seen, usage, at)
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

    def _price(
        self, calculator: CostCalculator, seen: Seen, usage: Usage | None, at: datetime
    ) -> Cost:
        """What the call costs. Without a price it is still a call: nothing that pricing raises is
        let through."""
        service, model = seen["service"], seen["model"]
        try:
            return calculator.of(
                usage or Usage(vector=None, convention="", reason="not_reported"),
                service=service,
                model=model,
                at=at,
                tier=seen.get("service_tier") or "",
                region=seen.get("region") or "",
            )
        except Exception as error:  # noqa: BLE001  (an odd price must not lose the call)
            detail = str(error) if isinstance(error, NilometerError) else type(error).__name__
            self._seldom.warning("calls are left without a price: %s", detail)
            return Cost(None, reason=PRICE_FAILED)

    def _scopes(self, observed: Observed) -> dict[str, Any]:
        seen = observed.seen
        own: dict[str, Any] = {name: seen[name] for name in _SCOPES if name in seen}
        scopes = observed.scopes.changed(own).within(self._process)
        found = {name: getattr(scopes, name) for name in _SCOPES}
        found["tags"] = scopes.tags[:MAX_TAGS]
        notes = {**scopes.metadata, **(seen.get("metadata") or {})}
        found["metadata"] = loose_values.metadata(notes)
        return found


def _started(observed: Observed) -> datetime:
    ended = datetime.fromtimestamp(observed.ended_at, UTC)
    latency = observed.seen.get("latency")
    return ended - timedelta(seconds=latency) if latency else ended


def _usage(seen: Seen) -> Usage | None:
    """What the call consumed: by the convention of its source, else by the caller's counts. None
    where nobody says."""
    given = seen.get("usage")
    read = given if isinstance(given, Usage) else _read(seen, given)
    entered, left = seen.get("input_tokens"), seen.get("output_tokens")
    if (entered, left) == (None, None) and str(seen.get("operation")).startswith("embed"):
        entered = seen.get("total_tokens") or None  # there is no other side
    if (read is None or read.vector is None) and (entered, left) != (None, None):
        vector = TokenVector(uncached_input=entered or 0, text_output=left or 0)
        counted = read or Usage(vector=vector, convention=COUNTED)
        return replace(counted, vector=vector, convention=COUNTED, reason="")
    return read


def _read(seen: Seen, given: Any) -> Usage | None:
    raw = None if given is None else loose_values.raw_usage(given)
    if raw is None:
        return None
    from nilometer.conventions.usage import read  # its tables are loaded with the first call

    model = seen["model"]
    found = read(
        {"$ai_usage": raw, "$ai_model": model},
        provider=seen["service"].strip().lower(),
        model=model,
        event="$ai_embedding" if seen["operation"].startswith("embed") else "$ai_generation",
        convention=seen.get("convention"),
    )
    return replace(found, raw=raw)
