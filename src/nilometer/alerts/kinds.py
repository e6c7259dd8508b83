"""What an alert rule can look for, as a table: adding a kind is a row here and its reading."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum


class Kind(StrEnum):
    """What a rule looks for."""

    SPEND_UNUSUAL = "spend_unusual"
    SPEND = "spend"
    COST_PER_CALL = "cost_per_call"
    ERROR_RATE = "error_rate"
    LATENCY_P95 = "latency_p95"
    MISSING_TRAFFIC = "missing_traffic"
    QUALITY = "quality"
    LEAKED_KEY = "leaked_key"
    DEAD_LETTERS = "dead_letters"
    BLOB_FAILURES = "blob_failures"


class Source(StrEnum):
    """What a kind reads: whole days of usage, calls, metrics of quality, captured content, dead
    letters, or what was counted of failures."""

    DAYS = "days"
    CALLS = "calls"
    SCORES = "scores"
    CONTENT = "content"
    DEAD_LETTERS = "dead_letters"
    FAILURES = "failures"


WHOLE = "project"
"""The dimension of a rule that looks at everything of its project."""
OF_CALLS = (WHOLE, "service", "model", "user", "job", "environment")
OF_SCORES = (WHOLE, "metric", "service", "model")

_MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """A kind: what it reads, and how its rules are unless they say otherwise.

    `what` says what the measured number is, `unit` what it is counted in, and `name` what it is
    called in an exception's payload. The condition breaks at the
    threshold or above it, or `below` it; of a threshold that is None each rule has its own.
    `dimensions` are what it can be told apart by. `exception_type` and `severity` are of the
    exception that is raised. `every` is the least time between two looks.
    """

    source: Source
    what: str
    unit: str
    name: str
    exception_type: str
    severity: str
    threshold: Decimal | None = None
    below: bool = False
    window: timedelta = 5 * _MINUTE
    min_calls: int = 1
    dimensions: tuple[str, ...] = (WHOLE,)
    every: timedelta = timedelta(0)


MEASURES: Mapping[Kind, Measure] = {
    Kind.SPEND_UNUSUAL: Measure(
        source=Source.DAYS,
        what="the spend of a day, in scales above what is usual",
        unit="",
        name="score",
        exception_type="runaway_spend",
        severity="high",
        window=timedelta(days=1),
        dimensions=OF_CALLS,
        every=5 * _MINUTE,
    ),
    Kind.SPEND: Measure(
        source=Source.CALLS,
        what="what calls cost",
        unit="USD",
        name="spent_usd",
        exception_type="runaway_spend",
        severity="high",
        window=60 * _MINUTE,
        dimensions=OF_CALLS,
    ),
    Kind.COST_PER_CALL: Measure(
        source=Source.CALLS,
        what="the mean cost of a priced call",
        unit="USD",
        name="cost_per_call_usd",
        exception_type="runaway_spend",
        severity="medium",
        window=15 * _MINUTE,
        min_calls=10,
        dimensions=OF_CALLS,
    ),
    Kind.ERROR_RATE: Measure(
        source=Source.CALLS,
        what="the share of calls that failed",
        unit="",
        name="error_rate",
        exception_type="provider_outage",
        severity="high",
        threshold=Decimal("0.5"),
        min_calls=20,
        dimensions=OF_CALLS,
    ),
    Kind.LATENCY_P95: Measure(
        source=Source.CALLS,
        what="the time that 95% of calls stay within",
        unit="s",
        name="latency_p95_seconds",
        exception_type="provider_outage",
        severity="medium",
        threshold=Decimal(30),
        window=15 * _MINUTE,
        min_calls=20,
        dimensions=OF_CALLS,
    ),
    Kind.MISSING_TRAFFIC: Measure(
        source=Source.CALLS,
        what="the number of calls",
        unit="calls",
        name="calls",
        exception_type="pipeline_trouble",
        severity="high",
        threshold=Decimal(1),
        below=True,
        window=15 * _MINUTE,
        min_calls=0,
        dimensions=OF_CALLS,
    ),
    Kind.QUALITY: Measure(
        source=Source.SCORES,
        what="the mean of a metric",
        unit="",
        name="value",
        exception_type="quality_drop",
        severity="medium",
        below=True,
        window=60 * _MINUTE,
        min_calls=10,
        dimensions=OF_SCORES,
    ),
    Kind.LEAKED_KEY: Measure(
        source=Source.CONTENT,
        what="the number of events that hold a key",
        unit="events",
        name="events",
        exception_type="key_leak",
        severity="critical",
        threshold=Decimal(1),
        window=15 * _MINUTE,
        every=_MINUTE,
    ),
    Kind.DEAD_LETTERS: Measure(
        source=Source.DEAD_LETTERS,
        what="the number of new dead letters",
        unit="dead letters",
        name="dead_letters",
        exception_type="pipeline_trouble",
        severity="high",
        threshold=Decimal(10),
        window=15 * _MINUTE,
    ),
    Kind.BLOB_FAILURES: Measure(
        source=Source.FAILURES,
        what="the number of uploads to the blob storage that failed",
        unit="uploads",
        name="failed_uploads",
        exception_type="pipeline_trouble",
        severity="high",
        threshold=Decimal(1),
        window=15 * _MINUTE,
    ),
}
