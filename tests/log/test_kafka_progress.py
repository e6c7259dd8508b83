"""The bookkeeping of a consumer's partitions, against any order of events."""

from __future__ import annotations

import threading

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from nilometer.log.kafka.progress import Progress
from nilometer.log.port import Position, Record

PARTITIONS = st.integers(0, 2)


def record(partition: int, offset: int) -> Record:
    return Record(Position(partition, offset), b"", b"")


class Model(RuleBasedStateMachine):
    """One consumer, and a group beside it that takes partitions away and gives them back.

    `effects` are the offsets of each partition that have had their effect, at whichever consumer;
    `committed` is the broker's. What must never be: an offset is committed, and one before it has
    had no effect.
    """

    def __init__(self) -> None:
        super().__init__()
        self.progress = Progress()
        self.committed = dict.fromkeys(range(3), 0)
        self.effects: dict[int, set[int]] = {number: set() for number in range(3)}
        self.next: dict[int, int] = {}
        self.hand: list[Record] = []

    @rule(partition=PARTITIONS)
    def assign(self, partition: int) -> None:
        if partition not in self.next:
            start = self.committed[partition]
            self.progress.assign({partition: start or None})
            self.next[partition] = start

    @rule(partition=PARTITIONS, elsewhere=st.integers(0, 3))
    def revoke(self, partition: int, elsewhere: int) -> None:
        """The partition goes, and another consumer gets so far with it."""
        if self.next.pop(partition, None) is not None:
            self.progress.revoke([partition])
            start = self.committed[partition]
            self.effects[partition] |= set(range(start, start + elsewhere))
            self.committed[partition] += elsewhere

    @rule(partition=PARTITIONS, count=st.integers(1, 4))
    def poll(self, partition: int, count: int) -> None:
        if partition in self.next:
            first = self.next[partition]
            records = [record(partition, first + number) for number in range(count)]
            assert self.progress.hand_out([each.position for each in records]) == {}
            self.next[partition] += count
            self.hand += records

    @precondition(lambda self: self.hand)
    @rule(count=st.integers(1, 6), answered=st.booleans())
    def finish(self, count: int, answered: bool) -> None:
        """The first records in hand have their effect, also those of partitions that went."""
        done, self.hand = self.hand[:count], self.hand[count:]
        for each in done:
            self.effects[each.position.partition].add(each.position.offset)
        self.progress.finish(done)
        partitions = {each.position.partition for each in done}
        offsets = self.progress.to_commit(partitions)
        if answered:
            for partition, offset in offsets.items():
                assert partition in self.next
                assert offset > self.committed[partition]
            self.committed |= offsets
            self.progress.commit(offsets)
            assert self.progress.to_commit(partitions) == {}

    @invariant()
    def nothing_is_passed_without_effect(self) -> None:
        for partition, offset in self.committed.items():
            assert set(range(offset)) <= self.effects[partition]


TestAnyOrder = Model.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=30)


def test_what_a_partition_lacks_is_counted() -> None:
    progress = Progress()
    progress.assign({0: 5, 1: None})
    assert progress.hand_out([Position(0, 5), Position(1, 40), Position(0, 9)]) == {0: 3}


def test_a_revocation_waits_until_what_is_in_hand_is_finished() -> None:
    progress = Progress()
    progress.assign({0: 0, 1: 0})
    records = [record(0, 0), record(1, 0)]
    progress.hand_out([each.position for each in records])
    assert not progress.wait_finished([0], 0.01)
    progress.finish(records[1:])
    assert progress.wait_finished([1], 0.01)
    waiting = threading.Thread(target=progress.wait_finished, args=([0], 30))
    waiting.start()
    progress.finish(records)
    waiting.join(90)
    assert not waiting.is_alive()


def test_after_going_back_what_was_in_hand_counts_no_more() -> None:
    progress = Progress()
    progress.assign({0: 0})
    records = [record(0, offset) for offset in range(6)]
    progress.hand_out([each.position for each in records])
    progress.rewind({0: 2})
    progress.finish(records)
    assert progress.to_commit() == {}
    progress.hand_out([records[2].position])
    progress.finish(records[2:3])
    assert progress.to_commit() == {0: 3}
