"""What the log's state is, asked again and again in a thread, so that nobody waits for it."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace

from confluent_kafka import KafkaException

from nilometer.errors import NilometerError
from nilometer.log.kafka.cluster import Cluster
from nilometer.log.kafka.connection import error_of, sentence
from nilometer.log.kafka.lag import LagReader
from nilometer.log.kafka.topic import TopicFacts, describe_topic
from nilometer.log.port import Lag, LogState, LogUnavailable

logger = logging.getLogger(__name__)


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
        topic: str,
        group_prefix: str,
        interval: float,
    ) -> None:
        self._cluster = cluster
        self._lags = lags
        self._topic = topic
        self._prefix = group_prefix
        self._interval = interval
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._state = LogState(ready=True, reason="", depth=0, size=None, as_of=0)
        self._thread = threading.Thread(target=self._run, name="kafka-monitor", daemon=True)

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
        """End the thread, which takes as long as the question that it is at."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
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
        except NilometerError as error:
            self._state = replace(before, ready=False, reason=error.detail)
        except Exception as error:
            # A surprise must not end the thread: the state would stay as it is for good.
            logger.exception("the state of the Kafka topic %s is unknown", self._topic)
            self._state = replace(before, ready=False, reason=f"unknown: {type(error).__name__}")
        if before.ready != self._state.ready:
            logger.warning("the log on Kafka %s", self._state.reason or "takes records again")

    def _asked(self) -> LogState:
        self._cluster.pass_on_log_lines()
        facts = describe_topic(self._cluster, self._topic)
        reason = _why_not(self._topic, facts)
        if facts is None or reason:
            return replace(self._state, ready=False, reason=reason)
        try:
            return self._measured(facts.partitions)
        except KafkaException as exception:
            # While a partition changes its leader it tells no offsets, and takes records all the
            # same, a little later. `as_of` says how old the figures are.
            logger.info("the lag on Kafka is unknown: %s", sentence(error_of(exception)))
            return replace(self._state, ready=True, reason="")

    def _measured(self, partitions: int) -> LogState:
        at = time.time_ns() // 1000
        holdings = self._lags.holdings(partitions)
        self._lags.remember(holdings, at)
        groups: dict[str, Lag] = {}
        for group_id in self._cluster.groups(self._prefix):
            groups[group_id.removeprefix(self._prefix)] = self._lags.lag(group_id, holdings)
        return LogState(
            ready=True, reason="", depth=holdings.depth, size=None, groups=groups, as_of=at
        )


def _why_not(topic: str, facts: TopicFacts | None) -> str:
    if facts is None:
        return f"the Kafka topic {topic} does not exist any more"
    if facts.leaderless == facts.partitions:
        return f"no partition of the Kafka topic {topic} has a leader"
    if facts.most_in_sync < facts.min_insync_replicas:
        return (
            f"the Kafka topic {topic} has too few replicas in sync: {facts.most_in_sync} of "
            f"{facts.min_insync_replicas}"
        )
    return ""
