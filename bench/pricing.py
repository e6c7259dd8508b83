"""Calls priced a second, beside genai-prices' own calculation of the same calls in the same run.

    python -m bench.pricing

Every round prices the same calls both ways, alternating; the fastest round of each counts, because
whatever else the machine does can only slow one down.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime

import genai_prices

from nilometer.domain.usage import TokenVector, Usage
from nilometer.pricing import price

ROUNDS = 7
CALLS = 2000
AT = datetime(2026, 11, 1, 12, tzinfo=UTC)
MODELS = (
    *(("openai", "gpt-4o"), ("openai", "gpt-5-mini"), ("anthropic", "claude-sonnet-4-5")),
    *(("google", "gemini-2.5-flash"), ("deepseek", "deepseek-v4-pro")),
)


def fastest(work: Callable[[int], object]) -> float:
    """Seconds for one call, in the fastest of the rounds that the caller alternates."""
    began = time.perf_counter()
    for number in range(CALLS):
        work(number)
    return (time.perf_counter() - began) / CALLS


def measure() -> dict[str, float]:
    vector = TokenVector(uncached_input=900, cache_read=100, text_output=40, reasoning=10)
    ours = Usage(vector=vector, convention="bench")
    theirs = genai_prices.Usage(input_tokens=1000, cache_read_tokens=100, output_tokens=50)

    def nilometer(number: int) -> object:
        provider, model = MODELS[number % len(MODELS)]
        return price(ours, provider=provider, model=model, at=AT)

    def package(number: int) -> object:
        provider, model = MODELS[number % len(MODELS)]
        return genai_prices.calc_price(
            theirs, model_ref=model, provider_id=provider, genai_request_timestamp=AT
        )

    for number in range(len(MODELS)):
        assert nilometer(number).total == package(number).total_price
    rounds = [(fastest(nilometer), fastest(package)) for _ in range(ROUNDS)]
    mine, reference = min(a for a, _ in rounds), min(b for _, b in rounds)
    return {
        "nilometer_calls_per_second": round(1 / mine),
        "genai_prices_calls_per_second": round(1 / reference),
        "times_faster": round(reference / mine, 1),
    }


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
