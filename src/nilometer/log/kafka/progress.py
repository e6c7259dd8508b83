"""How far a consumer has come in each of its partitions. Bookkeeping alone: it talks to nobody."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from nilometer.log.port import Position, Record


@dataclass(slots=True)
class _Partition:
    """Offsets of the next record: to hand out (None before the first), to have its effect, and to
    be committed (None while the broker's is unknown)."""

    next: int | None
    done: int
    committed: int | None

    @property
    def in_hand(self) -> bool:
        return self.next is not None and self.done < self.next


class Progress:
    """The partitions of one consumer, from their assignment to their revocation. Thread-safe.

    A record counts only under the assignment that it was handed out in: after a partition has gone
    and come back, what was in hand of it is handed out again.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._partitions: dict[int, _Partition] = {}

    @property
    def assigned(self) -> list[int]:
        """The partitions that this consumer has."""
        with self._changed:
            return sorted(self._partitions)

    def assign(self, starts: Mapping[int, int | None]) -> None:
        """Partitions have come, each with the group's committed offset, None if there is none."""
        with self._changed:
            for partition, start in starts.items():
                self._partitions[partition] = _Partition(start, start or 0, start)

    def revoke(self, partitions: Collection[int]) -> None:
        """Partitions have gone."""
        with self._changed:
            for partition in partitions:
                self._partitions.pop(partition, None)
            self._changed.notify_all()

    def hand_out(self, positions: Sequence[Position]) -> dict[int, int]:
        """These are handed out, in order; how many records each partition lacks before them."""
        lacking: dict[int, int] = {}
        with self._changed:
            for position in positions:
                found = self._partitions[position.partition]
                if found.next is not None and position.offset > found.next:
                    gap = position.offset - found.next
                    lacking[position.partition] = lacking.get(position.partition, 0) + gap
                if found.next is None or not found.in_hand:
                    found.done = max(found.done, position.offset)
                found.next = position.offset + 1
        return lacking

    def finish(self, records: Sequence[Record]) -> None:
        """These records, and all before them, have had their effect."""
        with self._changed:
            for position in (record.position for record in records):
                found = self._partitions.get(position.partition)
                if found is not None and found.next is not None and position.offset < found.next:
                    found.done = max(found.done, position.offset + 1)
            self._changed.notify_all()

    def wait_finished(self, partitions: Collection[int], timeout: float) -> bool:
        """Wait until nothing of these partitions is in hand; whether that is so."""

        def finished() -> bool:
            return not any(
                self._partitions[each].in_hand for each in partitions if each in self._partitions
            )

        with self._changed:
            return self._changed.wait_for(finished, timeout)

    def to_commit(self, partitions: Collection[int] | None = None) -> dict[int, int]:
        """Offsets that the group is to commit: of these partitions, or of all."""
        return self._select(
            lambda found: (
                found.done
                if found.next is not None and found.done > (found.committed or 0)
                else None
            ),
            partitions,
        )

    def commit(self, offsets: Mapping[int, int]) -> None:
        """The broker has these offsets."""
        with self._changed:
            for partition, offset in offsets.items():
                found = self._partitions.get(partition)
                if found is not None and offset > (found.committed or 0):
                    found.committed = offset

    def positions(self) -> dict[int, int | None]:
        """The next offset to hand out of each partition, None where nothing is known."""
        with self._changed:
            return {number: found.next for number, found in self._partitions.items()}

    def rewind(self, offsets: Mapping[int, int]) -> None:
        """Go back to these offsets, which the broker has."""
        with self._changed:
            for partition, offset in offsets.items():
                if partition in self._partitions:
                    self._partitions[partition] = _Partition(offset, offset, offset)

    def _select(
        self,
        offset_of: Callable[[_Partition], int | None],
        partitions: Collection[int] | None,
    ) -> dict[int, int]:
        with self._changed:
            wanted = self._partitions if partitions is None else partitions
            offsets = {
                number: offset_of(self._partitions[number])
                for number in wanted
                if number in self._partitions
            }
        return {number: offset for number, offset in offsets.items() if offset is not None}
