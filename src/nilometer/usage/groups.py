"""Usage added up: exact sums that merge, and the groups of a query."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Context, Decimal, Inexact
from typing import Any

from nilometer.domain.usage_metric import AIUsageMetric
from nilometer.usage import latency

FIELDS = (
    *("calls", "api_calls", "errors", "unpriced", "priced"),
    *("input_tokens", "output_tokens", "tokens", "cost"),
)
"""What is counted. `calls` are metrics, `api_calls` the requests that they stand for; `unpriced`
succeeded without a known cost; `cost` is in units of 10^-18 USD, the finest that an amount has."""

_CALLS, _COST = 0, len(FIELDS) - 1
_ATTO = Decimal(10) ** 18
_EXACT = Context(prec=80, traps=[Inexact])

Key = tuple[str, ...]
Values = list[int]


@dataclass(slots=True)
class Group:
    """Usage with one key: sums in the order of `FIELDS`; how many calls had each latency (`{}`
    where a host gives the percentiles themselves); the values of other dimensions in it."""

    values: Values = field(default_factory=lambda: [0] * len(FIELDS))
    latencies: dict[int, int] = field(default_factory=dict[int, int])
    names: dict[str, set[str]] = field(default_factory=dict[str, set[str]])
    measured: int | None = None
    percentiles: list[int] | None = None

    def add(self, values: Values, latencies: Mapping[int, int]) -> None:
        """Add the sums and the distribution of some calls."""
        mine = self.values
        for place, value in enumerate(values):
            mine[place] += value
        counts = self.latencies
        if not counts:
            counts.update(latencies)
            return
        for least, count in latencies.items():
            counts[least] = counts.get(least, 0) + count

    def count(self, name: str) -> int:
        """The sum of this name."""
        return self.values[FIELDS.index(name)]

    @property
    def cost(self) -> Decimal | None:
        """The cost, exact; None where calls are unpriced and none is priced."""
        if self.count("unpriced") and not self.count("priced"):
            return None
        return usd(self.values[_COST])

    def distribution(self) -> tuple[int, list[int]]:
        """How many latencies there are, and the buckets of their percentiles."""
        if self.measured is not None:
            return self.measured, self.percentiles or []
        return sum(self.latencies.values()), latency.percentiles(self.latencies)


@dataclass(slots=True)
class Groups:
    """What a host found: the usage of the whole query, of each level by key, and the groups of the
    combination that was asked for."""

    summary: Group = field(default_factory=Group)
    levels: dict[str, dict[str, Group]] = field(default_factory=dict[str, dict[str, Group]])
    combined: dict[Key, Group] = field(default_factory=dict[Key, Group])


def usd(atto: int) -> Decimal:
    """An amount of units of 10^-18 USD."""
    return Decimal(atto).scaleb(-18, _EXACT)


def atto(amount: Decimal) -> int:
    """An amount in units of 10^-18 USD. Exact: a metric has no finer one."""
    return int(_EXACT.multiply(amount, _ATTO))


def known_cost(computed: Decimal | None, reported: Decimal | None) -> Decimal | None:
    """What a call cost: as computed from its usage, else as its caller states (which a metric has
    as its cost, 0 included), else as its source reports it. A reported 0 is how some say that they
    know no price, so it is none."""
    return computed if computed is not None else reported or None


def values_of(metric: AIUsageMetric) -> Values:
    """What one metric counts."""
    cost = known_cost(metric.cost_usd, metric.reported_cost_usd)
    return [
        1,
        metric.api_calls,
        int(metric.status == "error"),
        int(metric.status == "success" and cost is None),
        int(cost is not None),
        metric.input_tokens or 0,
        metric.output_tokens or 0,
        (metric.input_tokens or 0) + (metric.output_tokens or 0),
        0 if cost is None else atto(cost),
    ]


def latencies_of(metric: AIUsageMetric) -> dict[int, int]:
    """The distribution of one metric."""
    return {} if metric.latency is None else {latency.bucket(metric.latency): 1}


def dimensions_of(metric: AIUsageMetric) -> dict[str, Any]:
    """The values of a metric's dimensions; "" where it has none."""
    return {
        "day": metric.date,
        "hour": metric.hour[-2:],
        "service": metric.service,
        "model": metric.model,
        "operation": metric.operation,
        "environment": metric.environment or "",
        "status": metric.status,
        "user": metric.user_id or "",
        "job": metric.job_id or "",
        "batch": metric.batch_id or "",
        "developer": metric.developer or "",
        "repository": metric.repository or "",
    }
