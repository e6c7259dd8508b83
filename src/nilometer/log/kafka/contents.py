"""Everything that a topic holds, read outside any group: nothing is committed.

For who writes a topic that nobody else uses yet, and must know what of it has arrived.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from nilometer.log.kafka.cluster import Cluster
from nilometer.log.kafka.connection import KafkaConnection, client_logger, error_of, sentence
from nilometer.log.kafka.consumer import HEADER
from nilometer.log.kafka.lag import Holdings
from nilometer.log.kafka.topic import TopicFacts
from nilometer.log.port import LogUnavailable, Position, Record

_SILENCE_SECONDS = 30.0
_SETTLING_SECONDS = 10.0
_LOOK_EVERY = 0.2
_CHUNK = 500


@dataclass(frozen=True, slots=True)
class Kept:
    """A record of the topic, and the message's other header of the name asked for."""

    record: Record
    mark: bytes | None


def holdings(cluster: Cluster, facts: TopicFacts) -> Holdings:
    """Where each partition begins and ends. Raises LogUnavailable.

    Tried for a while: the brokers hear one after the other of a topic that is new.
    """
    deadline = time.monotonic() + _SETTLING_SECONDS
    while True:
        try:
            starts = cluster.starts(facts.name, facts.partitions)
            return Holdings(starts, cluster.ends(facts.name, facts.partitions))
        except KafkaException as exception:
            if time.monotonic() > deadline:
                raise _unavailable(error_of(exception)) from exception
            time.sleep(_LOOK_EVERY)


def contents(
    connection: KafkaConnection, facts: TopicFacts, held: Holdings, mark: str
) -> Generator[Kept]:
    """Every record of these holdings, in order within each partition, with its header `mark`.

    Raises LogUnavailable when the cluster stops to answer before the end.
    """
    left = {each: end for each, end in held.ends.items() if end > held.starts[each]}
    if not left:
        return
    options = {
        **connection.options(),
        "group.id": f"{facts.name}.contents",  # never joined, never committed to
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "enable.partition.eof": True,
        "check.crcs": True,
        "queued.max.messages.kbytes": 32 * 1024,
        "message.max.bytes": facts.max_message_bytes,
        "receive.message.max.bytes": max(100_000_000, 2 * facts.max_message_bytes),
    }
    with contextlib.closing(Consumer(options, logger=client_logger)) as client:
        client.assign([TopicPartition(facts.name, each, held.starts[each]) for each in left])
        yield from _until_ends(client, left, mark)


def _until_ends(client: Consumer, left: dict[int, int], mark: str) -> Iterator[Kept]:
    heard = time.monotonic()
    while left:
        # As many as there are, once there is one: asked for more, the client waits for all of them.
        messages = client.consume(1, 0.5)
        messages += client.consume(_CHUNK, 0)
        if messages:
            heard = time.monotonic()
        elif time.monotonic() - heard > _SILENCE_SECONDS:
            raise LogUnavailable("Kafka stopped to hand out the topic's records; try again")
        for message in messages:
            partition, offset = message.partition(), message.offset()
            assert partition is not None
            if _is_end(message):
                left.pop(partition, None)
                continue
            assert offset is not None
            if partition in left and offset < left[partition]:
                yield _kept(message, Position(partition, offset), mark)
                if offset + 1 >= left[partition]:
                    del left[partition]


def _is_end(message: Message) -> bool:
    """Whether it says that there is no more. Raises LogUnavailable for any other error."""
    error = message.error()
    if error is None:
        return False
    if error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001
        raise _unavailable(error)
    return True


def _kept(message: Message, position: Position, mark: str) -> Kept:
    headers: dict[str, Any] = dict(message.headers() or {})
    record = Record(position, headers.get(HEADER) or b"", message.value() or b"")
    return Kept(record, headers.get(mark))


def _unavailable(error: KafkaError) -> LogUnavailable:
    return LogUnavailable(f"Kafka does not tell what the topic holds: {sentence(error)}")
