"""The log's unread records, put into a topic that nobody else uses yet.

Each message says in a header of its own which record of the source it is. So the topic itself tells
what it has, after whatever end of the run before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing

from nilometer import failpoints
from nilometer.errors import ConfigurationError
from nilometer.log.kafka import Cluster, Sending, TopicFacts, describe_topic
from nilometer.log.kafka.configured import connection, plan
from nilometer.log.kafka.contents import Kept, contents, holdings
from nilometer.log.kafka.producer import Sender, Waiting
from nilometer.log.kafka.topic import objections, open_topic, replicas_of
from nilometer.log.port import Position, Record
from nilometer.log.sqlite.unread import UnreadRecords
from nilometer.migrate_data.report import Comparison, Progress, Tally
from nilometer.migrate_data.sequences import sequence_of
from nilometer.settings import Settings

MARK = "nilometer-moved"
PART = "log"

_BATCH_RECORDS = 1000
_BATCH_BYTES = 16 << 20
_ANSWER_SECONDS = 10

Places = dict[int, Position]
"""By the offset in the source: where a record stands now."""


class Records:
    """The source's unread records and the target's topic. Blocks; raises LogUnavailable."""

    def __init__(self, unread: UnreadRecords, settings: Settings) -> None:
        """Raises ConfigurationError for a wrong option."""
        self._unread = unread
        self._settings = settings
        self._connection = connection(settings)
        self._plan = plan(settings)
        self._cluster = Cluster(self._connection, timeout=_ANSWER_SECONDS)

    @property
    def waiting(self) -> int:
        """How many there are to move."""
        return len(self._unread)

    def require_room(self) -> None:
        """Raises ConfigurationError for a topic or a cluster that is too weak, or too small for a
        record; changes nothing."""
        facts = describe_topic(self._cluster, self._plan.name)
        if facts is None:
            replicas_of(self._plan, self._cluster.brokers())
        elif found := objections(facts, self._plan):
            raise ConfigurationError("; ".join(found))
        largest = self._plan.largest_record if facts is None else facts.largest_record
        _require_fitting(self._unread, self._plan.name, largest)

    def strangers(self) -> bool:
        """Whether the topic has records that are not of a move."""
        facts = describe_topic(self._cluster, self._plan.name)
        if facts is None:
            return False
        with closing(self._contents(facts)) as kept:
            return any(each.mark is None for each in kept)

    def move(self, wanted: Collection[int], progress: Progress) -> tuple[int, Places]:
        """Append what the topic lacks; how many records that were, and where those `wanted` stand
        now. Raises ConfigurationError for a topic that is too weak, or too small for a record."""
        facts = open_topic(self._cluster, self._plan)
        there, places = self._there(facts, wanted)
        progress.advance(sum(there))
        sender = Sender(
            self._connection,
            Sending(compression=self._settings.kafka_compression),
            topic=facts.name,
            largest_message=facts.max_message_bytes,
            largest_record=facts.largest_record,
            on_trouble=_nothing,
        )
        moved = 0
        with closing(sender):
            for batch in _batches(self._unread, there):
                _require_fitting(batch, facts.name, facts.largest_record)
                found = _send(sender, batch)
                places.update({offset: at for offset, at in found.items() if offset in wanted})
                failpoints.hit("moved_records")
                moved += len(batch)
                progress.advance(len(batch))
        return moved, places

    def places(self, wanted: Collection[int]) -> Places:
        """Where these records of the source stand in the topic."""
        facts = describe_topic(self._cluster, self._plan.name)
        return {} if facts is None else self._there(facts, wanted)[1]

    def compare(self) -> Comparison:
        """The source's unread records beside those of the topic. One that is there twice, because
        the run before ended while it was on its way, counts once: identity makes one event of it.
        So it does of one that the source has read since, and the store's tables have.
        """
        source, target = Tally(), Tally()
        for record in self._unread:
            source.add(_digest(record))
        seen, repeated, read, foreign = bytearray(len(self._unread)), 0, 0, 0
        facts = describe_topic(self._cluster, self._plan.name)
        for kept in self._contents(facts) if facts else ():
            place = self._index(kept)
            if place is None and self._was_read(kept):
                read += 1
            elif place is None:
                foreign += 1
                target.add(_digest(kept.record))
            elif seen[place]:
                repeated += 1
            else:
                seen[place] = 1
                target.add(_digest(kept.record))
        counts = {"repeated": repeated, "read since": read, "of others": foreign}
        notes = [f"{count} {what}" for what, count in counts.items() if count]
        return Comparison(PART, self._plan.name, None, source, target, ", ".join(notes))

    def _there(self, facts: TopicFacts, wanted: Collection[int]) -> tuple[bytearray, Places]:
        there, places = bytearray(len(self._unread)), Places()
        for kept in self._contents(facts):
            index = self._index(kept)
            if index is not None:
                there[index] = 1
                offset = index + self._unread.start
                if offset in wanted:
                    places.setdefault(offset, kept.record.position)
        return there, places

    def _index(self, kept: Kept) -> int | None:
        """Which of the unread records it is; None for one that is none of them."""
        if kept.mark is None or not kept.mark.isdigit():
            return None
        index = int(kept.mark) - self._unread.start
        return index if 0 <= index < len(self._unread) else None

    def _was_read(self, kept: Kept) -> bool:
        """Whether the source's own pipeline has read it since it was put there."""
        return kept.mark is not None and kept.mark.isdigit() and int(kept.mark) < self._unread.start

    def _contents(self, facts: TopicFacts) -> Generator[Kept]:
        return contents(self._connection, facts, holdings(self._cluster, facts), MARK)


def _batches(unread: UnreadRecords, there: bytearray) -> Iterator[list[Record]]:
    """The records that are not there, as many as may be on their way at once."""
    batch: list[Record] = []
    size = 0
    for record in unread:
        if there[record.position.offset - unread.start]:
            continue
        batch.append(record)
        size += _size(record)
        if len(batch) >= _BATCH_RECORDS or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _require_fitting(records: Iterable[Record], topic: str, largest: int) -> None:
    size = max(map(_size, records), default=0)
    if size > largest:
        raise ConfigurationError(
            f"a record of the source has {size:,} bytes, and the topic {topic} takes "
            f"{largest:,}: raise NILOMETER_KAFKA_MAX_MESSAGE_BYTES, and the max.message.bytes of a "
            "topic that exists, and run this again"
        )


def _send(sender: Sender, batch: Sequence[Record]) -> Places:
    """Append the records; they are durable when it returns."""
    futures: list[tuple[int, Future[Position]]] = []
    for record in batch:
        future: Future[Position] = Future()
        offset = record.position.offset
        marks = [(MARK, str(offset).encode())]
        sequence = sequence_of(record)
        sender.submit(
            *(record.headers, record.payload, Waiting(_size(record), future, None), marks),
            key=None if sequence is None else sequence.encode(),
        )
        futures.append((offset, future))
    return {offset: future.result() for offset, future in futures}


def _size(record: Record) -> int:
    return len(record.headers) + len(record.payload)


def _digest(record: Record) -> int:
    digest = hashlib.blake2b(b"%d:" % len(record.headers), digest_size=8)
    digest.update(record.headers)
    digest.update(record.payload)
    return int.from_bytes(digest.digest())


def _nothing() -> None:
    """The one who waits hears of it."""
