"""What an ingestion did, and how fast: for a person, and as Prometheus reads it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from nilometer.importers.chunk import Tally
from nilometer.importers.store.store import Counts
from nilometer.usage import latency

STAGES = ("read", "parse", "price", "store")
"""Of a batch: cutting it into records, making calls of them, pricing those, and keeping them."""

_QUANTILES = {"0.5": 0, "0.95": 2, "0.99": 3}
"""The places in `latency.PERCENTILES`."""


@dataclass(slots=True)
class Statistics:
    """Counts of one ingestion. `bytes` are as read from the files, so compressed where they are;
    `unpriced` are successful calls at an unknown cost."""

    counts: Counts = field(default_factory=Counts)
    tally: Tally = field(default_factory=Tally)
    bytes: int = 0
    calls: int = 0
    unpriced: int = 0
    held: int = 0
    """Calls that were not sent yet, because their record may still grow."""
    rejected: Counter[str] = field(default_factory=Counter[str])
    seconds: float = 0.0
    stages: dict[str, dict[int, int]] = field(
        default_factory=lambda: {stage: dict[int, int]() for stage in STAGES}
    )

    def took(self, stage: str, seconds: float) -> None:
        """A batch took so long in a stage."""
        counts, bucket = self.stages[stage], latency.bucket(seconds)
        counts[bucket] = counts.get(bucket, 0) + 1

    @contextmanager
    def timed(self, stage: str) -> Generator[None]:
        """The block is a batch in a stage."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.took(stage, time.perf_counter() - began)

    @property
    def records_per_second(self) -> float:
        """Records, rejected ones included."""
        return self.tally.records / self.seconds if self.seconds else 0.0

    @property
    def bytes_per_second(self) -> float:
        """Bytes of the files."""
        return self.bytes / self.seconds if self.seconds else 0.0

    @property
    def unpriced_share(self) -> float:
        """Of the calls, from 0 to 1."""
        return self.unpriced / self.calls if self.calls else 0.0

    def quantiles(self, stage: str) -> dict[str, float]:
        """Seconds a batch, by quantile; nothing where no batch was measured."""
        counts = self.stages[stage]
        if not counts:
            return {}
        found = latency.percentiles(counts)
        return {name: latency.middle(found[place]) for name, place in _QUANTILES.items()}


def prometheus(statistics: Statistics) -> str:
    """Prometheus' text, for a file that its node exporter collects or for a push gateway."""
    return "".join(f"{line}\n" for line in _lines(statistics))


def _lines(of: Statistics) -> Iterator[str]:
    counts = of.counts
    outcomes = {
        "inserted": counts.inserted,
        "updated": counts.updated,
        "duplicate": counts.duplicate,
        "rejected": counts.rejected,
    }
    yield from _metric("records", "Records by what became of them.", _by("outcome", outcomes))
    yield from _metric("rejected", "Records that became dead letters.", _by("reason", of.rejected))
    yield from _metric("read_bytes", "Bytes of files read.", [("", of.bytes)])
    yield from _metric("unpriced", "Calls at an unknown cost.", [("", of.unpriced)])
    yield from _metric("unpriced_ratio", "Share of calls.", [("", of.unpriced_share)])
    yield from _metric("seconds", "How long it took.", [("", of.seconds)])
    yield from _metric("records_per_second", "Records.", [("", of.records_per_second)])
    yield from _metric("bytes_per_second", "Bytes of files.", [("", of.bytes_per_second)])
    stages = [
        (f'{{stage="{stage}",quantile="{quantile}"}}', seconds)
        for stage in STAGES
        for quantile, seconds in of.quantiles(stage).items()
    ]
    yield from _metric("stage_seconds", "Seconds of a batch in a stage.", stages)


def _by(label: str, values: dict[str, int]) -> list[tuple[str, float]]:
    return [(f'{{{label}="{_escaped(name)}"}}', values[name]) for name in sorted(values)]


def _metric(name: str, meaning: str, values: Iterable[tuple[str, float]]) -> Iterator[str]:
    """Of one ingestion, so all are gauges: the next one starts over."""
    full = f"nilometer_traces_{name}"
    yield f"# HELP {full} {meaning}"
    yield f"# TYPE {full} gauge"
    for labels, value in values:
        yield f"{full}{labels} {value!r}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
