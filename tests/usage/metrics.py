"""Metrics of all kinds, for the stores and hosts that must agree on them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from nilometer.domain.usage_metric import AIUsageMetric

JULY = datetime(2025, 7, 1, tzinfo=UTC)


def metric(**fields: Any) -> AIUsageMetric:
    """A priced call at noon of 1 July 2025."""
    given: dict[str, Any] = {
        "service": "openai",
        "model": "gpt-4o-mini",
        "operation": "completion",
        "timestamp": JULY + timedelta(hours=12),
        "input_tokens": 100,
        "output_tokens": 50,
        "cost_usd": Decimal("0.000045"),
        "latency": 0.25,
    }
    return AIUsageMetric(**given | fields)


# No price book has these, so a server takes the costs that metrics report.
_MODELS = [("openai", "gpt-x"), ("openai", "gpt-y"), ("anthropic", "claude-x"), ("b", "gpt-x")]
_FINEST = Decimal("1e-18")
_scope = st.sampled_from([None, "a", "b", "é#1"])


@st.composite
def metrics(draw: st.DrawFn) -> AIUsageMetric:
    """A metric of some days around July 2025, of few models, users and jobs."""
    service, model = draw(st.sampled_from(_MODELS))
    failed = draw(st.booleans())
    entered, left = (draw(st.none() | st.integers(0, 10**6)) for _ in range(2))
    total = None
    if entered is None and left is None:
        total = draw(st.none() | st.integers(0, 10**6))
    cost = draw(st.none() | st.decimals(_FINEST, 5, places=18, allow_nan=False))
    return metric(
        service=service,
        model=model,
        operation=draw(st.sampled_from(["completion", "embedding"])),
        timestamp=JULY + timedelta(microseconds=draw(st.integers(-(10**11), 3 * 10**11))),
        input_tokens=entered,
        output_tokens=left,
        total_tokens=total,
        cost_usd=cost,
        latency=draw(st.none() | st.integers(0, 10**8).map(lambda micros: micros / 1e6)),
        api_calls=draw(st.integers(1, 3)),
        status="error" if failed else "success",
        user_id=draw(_scope),
        job_id=draw(_scope),
        batch_id=draw(_scope),
        environment=draw(_scope),
        developer=draw(_scope),
        repository=draw(_scope),
    )
