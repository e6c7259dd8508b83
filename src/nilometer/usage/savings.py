"""What caches and batches saved, exactly where the stored calls tell, and how often they do not.

*Caches*: what tokens read from a provider's cache would have cost as fresh input, by the price that
the same call paid for its fresh input. A call without fresh input, or without computed parts of its
cost, is counted as unknown. What writing to the cache cost beyond fresh input is told beside it.

*Batches*: what calls of the batch tier would have cost in the standard one. That price is looked
up, so it is believed only where the same book and overrides also give, to the last digit, the cost
that is stored; else the calls are counted as unknown.

Every host fills `Savings` from its own store; `answer` writes them as JSON, the same for all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from nilometer.domain.usage import INPUT_BUCKETS, OUTPUT_BUCKETS
from nilometer.domain.usage_metric import AIUsageMetric
from nilometer.errors import InvalidInput
from nilometer.usage.dimensions import FILTERS
from nilometer.usage.groups import atto, usd
from nilometer.usage.query import UsageQuery, parse

if TYPE_CHECKING:
    from datetime import date

    from nilometer.pricing.rates import Rates

BUCKETS = (*INPUT_BUCKETS, *OUTPUT_BUCKETS)
BATCH_TIER = "batch"
WRITES = ("cache_write_5m", "cache_write_1h")

CACHE_FIELDS = (
    *("read_calls", "read_tokens", "read_unknown", "read_cost", "read_as_input"),
    *("write_calls", "write_tokens", "write_unknown", "write_cost", "write_as_input"),
)
"""What is counted of caches. `…_cost` and `…_as_input` are in units of 10^-18 USD, of the calls
that are not unknown."""

SIZES = (0, 32_000, 64_000, 100_000, 128_000, 199_999, 200_000, 256_000, 272_000, 512_000)
"""Calls of a batch are told apart by the last of these that their input exceeds: where providers
charge more for long inputs. A price with another limit is not used."""

PARAMETERS = ("start_date", "end_date", *FILTERS)

RatesOf = Callable[[str, str, str, datetime], "Rates | None"]
"""The rates of a provider's model in a tier at a moment, None where there are none."""

Json = dict[str, Any]


class BatchKey(NamedTuple):
    """Calls that one price has: of a day (`YYYY-MM-DD`, UTC), and a size (one of `SIZES`)."""

    service: str
    model: str
    day: str
    size: int


@dataclass(slots=True)
class BatchUse:
    """Calls of the batch tier: those that have a computed cost, and those that have none. Tokens by
    bucket, and amounts in units of 10^-18 USD, are of the former; `units` is what was paid for
    other things than tokens."""

    calls: int = 0
    unpriced: int = 0
    tokens: list[int] = field(default_factory=lambda: [0] * len(BUCKETS))
    cost: int = 0
    units: int = 0

    def add(self, other: BatchUse) -> None:
        """Add other calls of the same price."""
        self.calls += other.calls
        self.unpriced += other.unpriced
        self.cost += other.cost
        self.units += other.units
        self.tokens = [a + b for a, b in zip(self.tokens, other.tokens, strict=True)]


@dataclass(slots=True)
class Savings:
    """Sums of some calls: of caches, in the order of `CACHE_FIELDS`, and of batches by what decides
    their price. `estimated` counts the calls whose usage no provider told; None is not known."""

    cache: list[int] = field(default_factory=lambda: [0] * len(CACHE_FIELDS))
    batches: dict[BatchKey, BatchUse] = field(default_factory=dict[BatchKey, BatchUse])
    estimated: int | None = 0

    def add(self, other: Savings) -> None:
        """Add other calls."""
        self.cache = [a + b for a, b in zip(self.cache, other.cache, strict=True)]
        for key, use in other.batches.items():
            self.batches.setdefault(key, BatchUse()).add(use)
        if self.estimated is not None:
            self.estimated = None if other.estimated is None else self.estimated + other.estimated


def parse_savings(parameters: Mapping[str, Sequence[str]], *, today: date) -> UsageQuery:
    """The query of a request's `PARAMETERS`. Raises InvalidInput as `usage.query.parse` does."""
    for name in parameters:
        if name not in PARAMETERS:
            raise InvalidInput(
                f"There is no such parameter; known are {', '.join(PARAMETERS)}.",
                code="unknown_parameter",
                attr=name[:64],
            )
    return parse({**parameters, "aggregation": [""]}, today=today)


def of_metric(metric: AIUsageMetric) -> Savings:
    """What one metric counts."""
    found = Savings(estimated=int(metric.estimated))
    vector = metric.vector
    if vector is not None and (vector.cache_read or vector.cache_write_5m + vector.cache_write_1h):
        found.cache = _cache(metric)
    if (metric.service_tier or "").strip().lower() == BATCH_TIER:
        key = BatchKey(
            metric.service, metric.model, metric.date, size_of(vector.input if vector else 0)
        )
        found.batches[key] = _batch(metric)
    return found


def size_of(tokens: int) -> int:
    """Which of `SIZES` an input of so many tokens has."""
    return max((size for size in SIZES if tokens > size), default=0)


def _cache(metric: AIUsageMetric) -> list[int]:
    vector, parts = metric.vector, metric.cost_components
    assert vector is not None
    fresh = atto(parts.get("uncached_input", Decimal(0)))
    known = bool(fresh and vector.uncached_input)

    def side(buckets: Sequence[str]) -> list[int]:
        tokens = sum(getattr(vector, bucket) for bucket in buckets)
        if not tokens:
            return [0, 0, 0, 0, 0]
        if not known:
            return [1, tokens, 1, 0, 0]
        cost = sum(atto(parts.get(bucket, Decimal(0))) for bucket in buckets)
        return [1, tokens, 0, cost, fresh * tokens // vector.uncached_input]

    return [*side(("cache_read",)), *side(WRITES)]


def _batch(metric: AIUsageMetric) -> BatchUse:
    parts = metric.cost_components
    if metric.cost_usd is None or not parts:
        return BatchUse(unpriced=1)
    units = sum(atto(cost) for part, cost in parts.items() if part not in BUCKETS)
    tokens = list(metric.vector.counts) if metric.vector else [0] * len(BUCKETS)
    return BatchUse(1, 0, tokens, atto(metric.cost_usd), units)


def answer(savings: Savings, rates_of: RatesOf) -> Json:
    """The sums as JSON: amounts are exact decimal texts. `rates_of` looks prices up."""
    count = dict(zip(CACHE_FIELDS, savings.cache, strict=True))
    saved = count["read_as_input"] - count["read_cost"]
    extra = count["write_cost"] - count["write_as_input"]
    return {
        "cache": {
            "read_calls": count["read_calls"],
            "read_tokens": count["read_tokens"],
            "read_cost_usd_exact": _text(count["read_cost"]),
            "read_as_input_usd_exact": _text(count["read_as_input"]),
            "read_saved_usd_exact": _text(saved),
            "read_unknown_count": count["read_unknown"],
            "write_calls": count["write_calls"],
            "write_tokens": count["write_tokens"],
            "write_extra_usd_exact": _text(extra),
            "write_unknown_count": count["write_unknown"],
            "net_saved_usd_exact": _text(saved - extra),
        },
        "batch": _batch_answer(savings.batches.items(), rates_of),
        "estimated_count": savings.estimated,
    }


def _batch_answer(batches: Iterable[tuple[BatchKey, BatchUse]], rates_of: RatesOf) -> Json:
    calls = unknown = cost = standard = 0
    for key, use in batches:
        calls += use.calls + use.unpriced
        unknown += use.unpriced
        found = _standard(key, use, rates_of) if use.calls else None
        if found is None:
            unknown += use.calls
        else:
            cost += use.cost
            standard += found
    return {
        "calls": calls,
        "cost_usd_exact": _text(cost),
        "standard_cost_usd_exact": _text(standard),
        "saved_usd_exact": _text(standard - cost),
        "unknown_count": unknown,
    }


def _standard(key: BatchKey, use: BatchUse, rates_of: RatesOf) -> int | None:
    """What the calls would have cost in the standard tier; None where that is not sure."""
    year, month, day = map(int, key.day.split("-"))
    noon = datetime(year, month, day, 12, tzinfo=UTC)
    batch = rates_of(key.service, key.model, BATCH_TIER, noon)
    standard = rates_of(key.service, key.model, "", noon)
    if batch is None or standard is None or _total(batch, key.size, use) != use.cost:
        return None
    if use.units and batch.units != standard.units:
        return None
    return _total(standard, key.size, use)


def _total(rates: Rates, size: int, use: BatchUse) -> int | None:
    """What the tokens cost at these rates, and the units as they were paid."""
    if any(start not in SIZES for start, _ in rates.rows):
        return None
    row = [row for start, row in rates.rows if start <= size][-1]
    total = use.units
    for tokens, price in zip(use.tokens, row, strict=True):
        if tokens:
            if price is None:
                return None
            total += atto(price) * tokens
    return total


def _text(amount: int) -> str:
    text = format(usd(amount), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
