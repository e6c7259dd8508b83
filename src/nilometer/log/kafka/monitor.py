"""What the log's state is, asked again and again in a thread, so that nobody waits for it."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace

from confluent_kafka import KafkaException

from nilometer.log.kafka.cluster import Cluster, PartitionReplicas
from nilometer.log.kafka.connection import error_of, sentence
from nilometer.log.kafka.lag import LagReader
from nilometer.log.kafka.topic import TopicFacts
from nilometer.log.port import Lag, LogState, LogUnavailable

logger = logging.getLogger(__name__)

_LIST_EVERY = 30.0
_CLOSE_SECONDS = 10.0
_CLOSE_UNHEARD = 0.5


class Monitor:
    """Keeps a `LogState` that is at most about `interval` seconds old while the cluster answers.

    When it does not, or when no partition could take a record, the state is not ready, and the
    cluster is asked again every half second.
    """

    def __init__(
        self,
        cluster: Cluster,
        lags: LagReader,
        *,
        facts: TopicFacts,
        group_prefix: str,
        interval: float,
    ) -> None:
        self._facts = facts
        self._cluster = cluster
        self._lags = lags
        self._topic = facts.name
        self._groups: set[str] = set()
        self._listed_at = -_LIST_EVERY
        self._prefix = group_prefix
        self._interval = interval
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._state = LogState(ready=True, reason="", depth=0, size=None, as_of=0)
        self._thread = threading.Thread(target=self._run, name="kafka-monitor", daemon=True)

    def watch(self, group_id: str) -> None:
        """A group of this process: known before it is asked for."""
        self._groups.add(group_id)

    @property
    def state(self) -> LogState:
        """The last state that is known."""
        return self._state

    def start(self) -> None:
        """Ask once, then in the thread. Raises LogUnavailable when the first answer is late."""
        self._ask()
        if not self._state.ready:
            raise LogUnavailable(self._state.reason)
        self._thread.start()

    def look_now(self) -> None:
        """Something is wrong: do not wait for the next turn."""
        self._wake.set()

    def close(self) -> None:
        """End the thread, once it has its answer. While the cluster is away it waits long for that,
        and is left to it."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(_CLOSE_SECONDS if self._state.ready else _CLOSE_UNHEARD)
        if not self._thread.is_alive():
            self._lags.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            pause = self._interval if self._state.ready else min(0.5, self._interval)
            self._wake.wait(pause)
            self._wake.clear()
            if not self._stopping.is_set():
                self._ask()
            # Troubles come several at a time; the cluster is not asked for each.
            self._stopping.wait(min(0.1, self._interval))

    def _ask(self) -> None:
        before = self._state
        try:
            self._state = self._asked()
        except Exception as error:
            # A surprise must not end the thread: the state would stay as it is for good.
            logger.exception("the state of the Kafka topic %s is unknown", self._topic)
            self._state = replace(before, ready=False, reason=f"unknown: {type(error).__name__}")
        if before.ready != self._state.ready:
            logger.warning("the log on Kafka: %s", self._state.reason or "it takes records again")

    def _asked(self) -> LogState:
        self._cluster.pass_on_log_lines()
        try:
            found = self._cluster.partitions(self._topic)
        except KafkaException as exception:
            reason = f"Kafka does not tell about its topics: {sentence(error_of(exception))}"
            return replace(self._state, ready=False, reason=reason)
        reason = self._why_not(found)
        if found is None or reason:
            return replace(self._state, ready=False, reason=reason)
        try:
            return self._measured(len(found))
        except KafkaException as exception:
            # While a partition changes its leader it tells no offsets, and takes records all the
            # same, a little later. `as_of` says how old the figures are.
            logger.info("the lag on Kafka is unknown: %s", sentence(error_of(exception)))
            return replace(self._state, ready=True, reason="")

    def _measured(self, partitions: int) -> LogState:
        at = time.time_ns() // 1000
        holdings = self._lags.holdings(partitions)
        self._lags.remember(holdings, at)
        self._list_groups()
        groups: dict[str, Lag] = {}
        for group_id in sorted(self._groups.copy()):
            groups[group_id.removeprefix(self._prefix)] = self._lags.lag(group_id, holdings)
        return LogState(
            ready=True, reason="", depth=holdings.depth, size=None, groups=groups, as_of=at
        )

    def _list_groups(self) -> None:
        """Groups stay known; new ones are asked for now and then."""
        if time.monotonic() - self._listed_at > _LIST_EVERY:
            self._listed_at = time.monotonic()
            self._groups.update(self._cluster.groups(self._prefix))

    def _why_not(self, found: list[PartitionReplicas] | None) -> str:
        if found is None:
            return f"the Kafka topic {self._topic} does not exist any more"
        if not any(each.led for each in found):
            return f"no partition of the Kafka topic {self._topic} has a leader"
        most, needed = max(each.in_sync for each in found), self._facts.min_insync_replicas
        if most < needed:
            return f"the Kafka topic {self._topic} has too few replicas in sync: {most} of {needed}"
        return ""
