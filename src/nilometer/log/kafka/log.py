"""The log of the distributed profile."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from confluent_kafka import KafkaException

from nilometer.errors import ConfigurationError
from nilometer.log.envelope import Envelope
from nilometer.log.kafka.cluster import Cluster
from nilometer.log.kafka.connection import KafkaConnection, error_of, sentence
from nilometer.log.kafka.consumer import KafkaConsumer
from nilometer.log.kafka.lag import LagReader
from nilometer.log.kafka.membership import Membership
from nilometer.log.kafka.monitor import Monitor
from nilometer.log.kafka.producer import Sender, Sending, Waiting
from nilometer.log.kafka.topic import TopicFacts, TopicPlan, open_topic
from nilometer.log.port import LogState, LogUnavailable, Position

_Client = TypeVar("_Client")


class KafkaLog:
    """A log on one topic of a Kafka cluster; see the package and `nilometer.log.port.Log`.

    Opens the topic at construction, and creates it where it is missing. Raises ConfigurationError
    when the cluster or the topic is too weak, or the options are wrong, and LogUnavailable when no
    broker answers within `answer_timeout` seconds.

    A group is called `{topic}.{group}` in the cluster. `state_interval` is how old, in seconds, the
    state may be.
    """

    def __init__(
        self,
        connection: KafkaConnection,
        plan: TopicPlan,
        *,
        sending: Sending | None = None,
        membership: Membership | None = None,
        answer_timeout: float = 5,
        state_interval: float = 2,
    ) -> None:
        self._connection = connection
        self._membership = membership or Membership()
        self._prefix = f"{plan.name}."
        self._opening = threading.Lock()
        self._closed = False
        self._consumers: list[KafkaConsumer] = []
        cluster = _checked(lambda: Cluster(connection, timeout=answer_timeout))
        self.facts: TopicFacts = open_topic(cluster, plan)
        self._monitor = Monitor(
            cluster,
            LagReader(cluster, connection, plan.name),
            facts=self.facts,
            group_prefix=self._prefix,
            interval=state_interval,
        )
        self._monitor.start()
        with contextlib.ExitStack() as undo:
            undo.callback(self._monitor.close)
            self._sender = _checked(
                lambda: Sender(
                    connection,
                    sending or Sending(),
                    topic=plan.name,
                    largest_message=self.facts.max_message_bytes,
                    largest_record=self.facts.largest_record,
                    on_trouble=self._monitor.look_now,
                    answers=self._answers,
                )
            )
            undo.pop_all()

    async def append(self, envelope: Envelope) -> Position:
        """Append one record; see the port. Costs the loop one call of librdkafka and one future."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Position] = loop.create_future()
        self._submit(envelope, future, loop)
        return await future

    def append_blocking(self, envelope: Envelope) -> Position:
        """Append one record from a plain thread; see the port."""
        return self.append_soon(envelope).result()

    def append_soon(self, envelope: Envelope) -> concurrent.futures.Future[Position]:
        """Append one record from a plain thread, which goes on meanwhile; see the port."""
        future: concurrent.futures.Future[Position] = concurrent.futures.Future()
        self._submit(envelope, future, None)
        return future

    def consumer(self, group: str) -> KafkaConsumer:
        """Another reader of the group: it shares the partitions with those that read already."""
        with self._opening:
            if self._closed:
                raise LogUnavailable("the log is closed")
            consumer = _checked(
                lambda: KafkaConsumer(
                    self._connection,
                    topic=self.facts.name,
                    group_id=self._prefix + group,
                    membership=self._membership,
                    largest_message=self.facts.max_message_bytes,
                    answers=self._answers,
                )
            )
            self._consumers.append(consumer)
            self._monitor.watch(self._prefix + group)
            return consumer

    def state(self) -> LogState:
        """See the port: a few seconds old, `as_of` tells. Kafka does not tell the size."""
        return self._monitor.state

    def close(self) -> None:
        """Wait for what was accepted, leave every group, close every connection. A cluster that is
        away is waited for no longer than about a second for each of the three."""
        with self._opening:
            if self._closed:
                return
            self._closed = True
        self._sender.close()
        if self._consumers:  # all at once: each may wait for the cluster
            with ThreadPoolExecutor(len(self._consumers)) as leaving:
                list(leaving.map(KafkaConsumer.close, self._consumers))
        self._monitor.close()

    def _answers(self) -> bool:
        return self._monitor.state.ready

    def _submit(
        self,
        envelope: Envelope,
        future: asyncio.Future[Position] | concurrent.futures.Future[Position],
        loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        state = self._monitor.state
        if not state.ready:
            # It would wait for the delivery timeout, and its sender with it.
            raise LogUnavailable(state.reason)
        headers = envelope.headers()
        waiting = Waiting(len(headers) + len(envelope.payload), future, loop)
        key = None if envelope.sequence is None else envelope.sequence.encode()
        self._sender.submit(headers, envelope.payload, waiting, key=key)


def _checked(opened: Callable[[], _Client]) -> _Client:
    """What was opened; an option that librdkafka refuses is the operator's to mend."""
    try:
        return opened()
    except KafkaException as exception:
        raise ConfigurationError(
            f"Kafka cannot be used as configured: {sentence(error_of(exception))}"
        ) from exception
