"""`memory://`: a list in this process, for tests and for looking."""

from __future__ import annotations

from collections.abc import Sequence

from nilometer.domain.usage_metric import AIUsageMetric
from nilometer.sdk.sinks.port import Failed

FULL = "memory_full"


class MemorySink:
    """Keeps `most` metrics, the first of each id, in the order in which they came."""

    batch_size = 1000
    wants_prices = True
    local = True

    def __init__(self, name: str = "memory://", most: int = 100_000) -> None:
        self.name = name
        self._most = most
        self._metrics: dict[str, AIUsageMetric] = {}

    @property
    def metrics(self) -> list[AIUsageMetric]:
        """What was stored."""
        return list(self._metrics.values())

    def store(self, metrics: Sequence[AIUsageMetric]) -> Sequence[Failed]:
        """Keep them; those that there is no room for are refused for good."""
        failed: list[Failed] = []
        for metric in metrics:
            if len(self._metrics) >= self._most and metric.request_id not in self._metrics:
                failed.append(Failed(metric, FULL, permanent=True))
            else:
                self._metrics.setdefault(metric.request_id, metric)
        return failed

    def close(self) -> None:
        """Nothing to let go of: the metrics stay."""
