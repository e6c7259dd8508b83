from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from nilometer import ClientConfig, ClientManager
from nilometer.domain.usage_metric import AIUsageMetric
from nilometer.sdk.sinks.port import Failed

CALL = {"service": "acme", "model": "acme-1", "operation": "completion"}


class FaultySink:
    """A store that is up, down or picky, as the test says."""

    batch_size = 50
    wants_prices = False
    local = False

    def __init__(self, name: str = "faulty://") -> None:
        self.name = name
        self.down: Exception | None = None
        self.answer: Callable[[Sequence[AIUsageMetric]], Sequence[Failed]] | None = None
        self.asked = 0
        self.kept: dict[str, AIUsageMetric] = {}
        self.repeated = 0
        self.before: Callable[[], Any] = lambda: None

    def store(self, metrics: Sequence[AIUsageMetric]) -> Sequence[Failed]:
        self.asked += 1
        self.before()
        if self.down is not None:
            raise self.down
        failed = list(self.answer(metrics)) if self.answer else []
        left_out = {each.metric.request_id for each in failed}
        for metric in metrics:
            if metric.request_id not in left_out:
                self.repeated += metric.request_id in self.kept
                self.kept[metric.request_id] = metric
        return failed

    def close(self) -> None:
        pass


MakeManager = Callable[..., ClientManager]


@pytest.fixture
def make_manager(tmp_path: Path) -> Iterator[MakeManager]:
    made: list[ClientManager] = []

    def make(sink: Any = "memory://", **fields: Any) -> ClientManager:
        named: dict[str, Any] = {
            "spool_dir": tmp_path / "spool",
            "auto_tags": False,
            "environment": "test",
            "flush_interval": 0.01,
            "retry_base_delay": 0.01,
            "circuit_breaker_timeout": 0.05,
            "exit_timeout": 0.2,
            "handle_sigterm": False,
        }
        manager = ClientManager(ClientConfig(sink=sink, **(named | fields)))
        made.append(manager)
        return manager

    yield make
    for manager in made:
        manager.close()
        assert manager.stats().balanced
