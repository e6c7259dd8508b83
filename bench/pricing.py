"""Calls priced a second, beside genai-prices' own calculation of the same calls in the same run;
and what part of the pipeline's time pricing is.

    python -m bench.pricing

Every round prices the same calls both ways, alternating; the fastest round of each counts, because
whatever else the machine does can only slow one down. The pipeline's time is processor time, from a
record of the log to rows on the disk.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import genai_prices

from bench.batch import EVENTS, event
from nilometer.clickhouse.store import Store
from nilometer.conventions import usage
from nilometer.domain.posthog_record import DOOR, DOOR_VERSION, PostHogEvent, PostHogRecord
from nilometer.domain.usage import TokenVector, Usage
from nilometer.log.envelope import Envelope
from nilometer.pipeline.event_rows import Rows
from nilometer.pipeline.mapping import map_record
from nilometer.pipeline.writer import write
from nilometer.pricing import Priced, price

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

    def nilometer(number: int) -> Priced:
        provider, model = MODELS[number % len(MODELS)]
        return price(ours, provider=provider, model=model, at=AT)

    def package(number: int) -> genai_prices.types.PriceCalculation:
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
        **share(),
    }


def share() -> dict[str, float]:
    """Microseconds of the processor for each event of a `/batch`, by what the pipeline does."""
    records = [_record(number) for number in range(CALLS // EVENTS)]
    list(_mapped(records))  # the price book is read with the first
    mapped = _spent(lambda: list(_mapped(records)))
    rows = list(_mapped(records))
    properties = [event()["properties"] for _ in range(CALLS)]
    known = [_usage(each) for each in properties]
    read = _spent(lambda: [_usage(each) for each in properties])
    priced = _spent(
        lambda: [price(each, provider="openai", model="gpt-4o-mini", at=AT) for each in known]
    )
    written = _written(rows)
    return {
        "mapping_us": round(mapped, 1),
        "of_which_usage_us": round(read, 1),
        "of_which_price_us": round(priced, 1),
        "writing_us": round(written, 1),
        "price_share": round(priced / (mapped + written), 3),
        "usage_and_price_share": round((read + priced) / (mapped + written), 3),
    }


def _usage(properties: dict[str, Any]) -> Usage:
    return usage.read(properties, provider="openai", model="gpt-4o-mini", event="$ai_generation")


def _record(number: int) -> Envelope:
    """A record as the door of `/batch` writes it."""
    events = [event() for _ in range(EVENTS)]
    record = PostHogRecord(
        events=tuple(PostHogEvent(each["uuid"], json.dumps(each).encode()) for each in events),
        protocol="v0",
        sent_at=None,
        ip="192.0.2.1",
        retention_days=30,
    )
    return Envelope(
        project_id=1,
        uuid=events[0]["uuid"],
        door=DOOR,
        door_version=DOOR_VERSION,
        accepted_at=time.time_ns() // 1000 + number,
        config_version=1,
        payload=record.encode(),
    )


def _mapped(records: list[Envelope]) -> list[Rows]:
    return [rows for record in records for rows in map_record(record) if isinstance(rows, Rows)]


def _spent(work: Callable[[], object]) -> float:
    """Microseconds of the processor an event, in the best of a few rounds."""

    def once() -> float:
        began = time.process_time()
        work()
        return (time.process_time() - began) / CALLS

    return min(once() for _ in range(ROUNDS)) * 1e6


def _written(rows: list[Rows]) -> float:
    """Microseconds of the processor an event, all threads of the engine counted."""
    with tempfile.TemporaryDirectory() as directory:
        store = Store(Path(directory))
        store.open()
        try:
            began = time.process_time()
            write(store, rows)
            return (time.process_time() - began) / len(rows) * 1e6
        finally:
            store.close()


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
