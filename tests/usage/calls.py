"""Calls of an imagined month, priced by the book, and the sources that hold them."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from nilometer.domain.usage import TokenVector, Usage
from nilometer.domain.usage_metric import AIUsageMetric
from nilometer.pipeline.event_rows import CanonicalEvent, rows_of
from nilometer.sdk.calculator import CostCalculator
from nilometer.sdk.sinks.events import event

CALCULATOR = CostCalculator()
MODELS = (
    *(("openai", "gpt-4o-mini"), ("openai", "gpt-4o"), ("anthropic", "claude-sonnet-4-6")),
    *(("acme", "acme-1"), ("openai", "text-embedding-3-small")),
)

_INPUTS = (
    {"uncached_input": 1},
    {"uncached_input": 40_000},
    {"uncached_input": 999, "cache_read": 1024},
    {"cache_read": 1024},
)


def call(**fields: Any) -> AIUsageMetric:
    """A call of gpt-4o-mini at noon of 10 November 2026, priced by the book: give `vector`, or what
    a metric has. One that failed used nothing."""
    vector = fields.pop("vector", TokenVector(uncached_input=1000, text_output=100))
    if fields.get("status") == "error":
        vector = None
    given: dict[str, Any] = {
        "service": "openai",
        "model": "gpt-4o-mini",
        "operation": "completion",
        "timestamp": datetime(2026, 11, 10, 12, tzinfo=UTC),
        "usage": vector and Usage(vector=vector, convention="openai"),
        "latency": 0.25,
    }
    given |= fields
    if given.get("status") != "error" and "cost_usd" not in given:
        cost = CALCULATOR.of(
            given["usage"],
            service=given["service"],
            model=given["model"],
            at=given["timestamp"],
            tier=given.get("service_tier") or "",
        )
        given |= {"cost_usd": cost.total, "unpriced_reason": cost.reason}
        given |= {"cost_components": cost.components, "price_source": cost.source}
    return AIUsageMetric(**given)


def month(first: date, days: int, count: int, seed: int = 1) -> list[AIUsageMetric]:
    """So many calls of some days: cached, in batches, failed and unpriced ones among them."""
    chance = random.Random(seed)
    start = datetime(first.year, first.month, first.day, tzinfo=UTC)

    def one(number: int) -> AIUsageMetric:
        service, model = chance.choice(MODELS)
        vector = TokenVector(
            **chance.choice(_INPUTS),
            text_output=0 if "embedding" in model else chance.randrange(500),
        )
        failed = chance.random() < 0.1
        return call(
            service=service,
            model=model,
            vector=vector,
            timestamp=start + timedelta(seconds=chance.randrange(days * 86_400)),
            request_id=f"seed-{seed}-{first}-{number}",
            status="error" if failed else "success",
            latency=chance.choice([None, 0.5, 2.5]),
            service_tier=chance.choice([None, "default", "batch"]),
            job_id=chance.choice([None, "nightly", "<b>weekly</b>", "=1+1"]),
            user_id=chance.choice([None, "ada", "grace"]),
        )

    return [one(number) for number in range(count)]


def stored_row(project_id: int, metric: AIUsageMetric) -> bytes:
    """The row of `calls` that the pipeline makes of the event that the client library sends."""
    sent = event(metric, "test")
    canonical = CanonicalEvent(
        project_id=project_id,
        uuid=sent["uuid"],
        door="posthog",
        source_rank=10,
        accepted_at=1_760_000_000_000_000,
        retention_days=30,
        ip="",
        name=sent["event"],
        distinct_id=sent["distinct_id"],
        timestamp=datetime.fromisoformat(sent["timestamp"]).astimezone(UTC),
        properties=json.loads(json.dumps(sent["properties"])),
        properties_text="{}",
    )
    row = rows_of(canonical).call
    assert row is not None
    return row


def spent(metrics: Sequence[AIUsageMetric]) -> Decimal:
    """Their cost, exact."""
    return sum((each.cost_usd or Decimal(0) for each in metrics), Decimal(0))
