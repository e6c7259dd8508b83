"""The client library's store in DynamoDB: `dynamodb://TABLE?region=…`."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from nilometer.domain import clock
from nilometer.domain.usage_metric import AIUsageMetric
from nilometer.dynamodb import client
from nilometer.dynamodb.rollups import LANES
from nilometer.dynamodb.writer import Entry, Refused, Writer, entry, refused_at_once
from nilometer.errors import InvalidInput
from nilometer.sdk.sinks.port import Failed
from nilometer.sdk.turns import in_turns

TTL_DAYS = 400
"""How long an item is kept, from the later of its time and its writing. Rollups stay."""
_RETRY_AFTER = 1.0
WRITERS = 2
"""Requests at once. A table of AWS does them side by side; DynamoDB Local does one after the other,
so that a second one waits for the first."""
_ALONE = 50
"""So many metrics one writer stores alone."""
_DAY = 86_400


class DynamoSink:
    """Stores metrics, each once however often it is given, and what they add to the rollups.

    `ttl_days` is None to keep items for ever. `dynamodb` is a client in place of one of its own.
    """

    batch_size = 2000
    wants_prices = True
    local = False

    def __init__(
        self,
        table: str,
        *,
        region: str | None = None,
        endpoint_url: str | None = None,
        ttl_days: int | None = TTL_DAYS,
        dynamodb: Any = None,
        writers: int = WRITERS,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.name = f"dynamodb://{table}"
        self._ttl_days = ttl_days
        self._dynamodb = dynamodb or client.connect(region=region, endpoint_url=endpoint_url)
        lanes = random.sample(range(LANES), writers)
        self._writers = [Writer(self._dynamodb, table, lane, sleep=sleep) for lane in lanes]
        self._threads = ThreadPoolExecutor(writers, "nilometer-dynamodb")

    def store(self, metrics: Sequence[AIUsageMetric]) -> Sequence[Failed]:
        """As the port says."""
        each_once: dict[str, AIUsageMetric] = {}
        for metric in metrics:  # one transaction cannot put two of one id
            each_once.setdefault(metric.request_id, metric)
        refused = self._write(sorted(each_once.values(), key=_neighbours))
        return [
            Failed(each.metric, each.reason, each.permanent, 0 if each.permanent else _RETRY_AFTER)
            for each in refused
        ]

    def close(self) -> None:
        """Let go of the connections."""
        self._threads.shutdown()
        self._dynamodb.close()

    def _write(self, metrics: list[AIUsageMetric]) -> list[Refused]:
        """By several writers where there are many: each takes neighbours, whose rollups are few."""
        now = clock.now().timestamp()
        if len(metrics) <= _ALONE:
            return self._share(self._writers[0], metrics, now) if metrics else []
        share = -(-len(metrics) // len(self._writers))
        parts = [metrics[start : start + share] for start in range(0, len(metrics), share)]
        try:
            running = [
                self._threads.submit(self._share, writer, part, now)
                for writer, part in zip(self._writers, parts, strict=False)
            ]
        except RuntimeError:  # the interpreter is ending, and starts no threads
            return self._share(self._writers[0], metrics, now)
        # All end before the first error is raised.
        for each in running:
            each.exception()
        return [refused for each in running for refused in each.result()]

    def _share(self, writer: Writer, metrics: list[AIUsageMetric], now: float) -> list[Refused]:
        """What one writer stores. Items are made as it comes to them: while it waits for the answer
        to a transaction, another one makes those of its next."""
        refused: list[Refused] = []

        def entries() -> Iterator[Entry]:
            for metric in in_turns(metrics):
                try:
                    yield entry(metric, self._expires_at(metric, now))
                except InvalidInput as error:
                    refused.append(refused_at_once(metric, error))

        return [*writer.write(entries()), *refused]

    def _expires_at(self, metric: AIUsageMetric, now: float) -> int | None:
        if self._ttl_days is None:
            return None
        return int(max(metric.timestamp.timestamp(), now)) + self._ttl_days * _DAY


def _neighbours(each: AIUsageMetric) -> tuple[str, ...]:
    """Metrics of one day, user and job next to each other: they are of the same rollups, each of
    which a transaction replaces once."""
    scopes = each.user_id or "", each.job_id or "", each.batch_id or ""
    return (each.date, *scopes, each.service, each.model)
