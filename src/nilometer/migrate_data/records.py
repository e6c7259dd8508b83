"""The log's unread records, put into a topic that nobody else uses yet.

Each message says in a header of its own which record of the source it is. So the topic itself tells
what it has, after whatever end of the run before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing

from nilometer import failpoints
from nilometer.errors import ConfigurationError
from nilometer.log.kafka import Cluster, Sending, TopicFacts, describe_topic
from nilometer.log.kafka.configured import connection, plan
from nilometer.log.kafka.contents import Kept, contents, holdings
from nilometer.log.kafka.producer import Sender, Waiting
from nilometer.log.kafka.topic import open_topic
from nilometer.log.port import Position, Record
from nilometer.log.sqlite.unread import UnreadRecords
from nilometer.migrate_data.report import Comparison, Progress, Tally
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

    def strangers(self) -> int:
        """How many records the topic has that are not of a move; 0 without a topic."""
        facts = describe_topic(self._cluster, self._plan.name)
        if facts is None:
            return 0
        return sum(each.mark is None for each in self._contents(facts))

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
                _require_fitting(batch, facts)
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
        """
        source, target = Tally(), Tally()
        for record in self._unread:
            source.add(_digest(record))
        seen, repeated, foreign = bytearray(len(self._unread)), 0, 0
        facts = describe_topic(self._cluster, self._plan.name)
        for kept in self._contents(facts) if facts else ():
            place = self._index(kept)
            if place is None:
                foreign += 1
                target.add(_digest(kept.record))
            elif seen[place]:
                repeated += 1
            else:
                seen[place] = 1
                target.add(_digest(kept.record))
        notes = [f"{repeated} repeated"] * bool(repeated) + [f"{foreign} of others"] * bool(foreign)
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

    def _contents(self, facts: TopicFacts) -> Iterator[Kept]:
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


def _require_fitting(batch: Sequence[Record], facts: TopicFacts) -> None:
    largest = max(map(_size, batch))
    if largest > facts.largest_record:
        raise ConfigurationError(
            f"a record of the source has {largest:,} bytes, and the topic {facts.name} takes "
            f"{facts.largest_record:,}: raise its max.message.bytes and run this again"
        )


def _send(sender: Sender, batch: Sequence[Record]) -> Places:
    """Append the records; they are durable when it returns."""
    futures: list[tuple[int, Future[Position]]] = []
    for record in batch:
        future: Future[Position] = Future()
        offset = record.position.offset
        marks = [(MARK, str(offset).encode())]
        sender.submit(record.headers, record.payload, Waiting(_size(record), future, None), marks)
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
