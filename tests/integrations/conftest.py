from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from nilometer import ClientConfig, ClientManager
from nilometer.domain.usage_metric import AIUsageMetric

Metrics = Callable[[], list[AIUsageMetric]]


@pytest.fixture
def manager() -> Iterator[ClientManager]:
    config = ClientConfig(
        sink="memory://", spool=False, environment="test", auto_tags=False, handle_sigterm=False
    )
    with ClientManager(config) as made:
        yield made


@pytest.fixture
def metrics(manager: ClientManager) -> Metrics:
    """What was recorded so far, in order."""

    def stored() -> list[AIUsageMetric]:
        assert manager.flush(timeout=10)
        return list(manager.sinks[0].metrics)

    return stored
