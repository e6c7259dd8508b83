"""Which blobs may still be read, as the sweeper asks it: a mistake here deletes what was kept.

Every record that was accepted is waiting, stored, or dead-lettered. The blob of a waiting one is
not judged (`caught_up_to`), that of a stored one is named by its row, and that of a dead letter is
kept as long as the letter may still become an event. What cannot be known is raised, never guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from nilometer.blobs.keys import ObjectName
from nilometer.clickhouse.store import Store
from nilometer.domain import clock
from nilometer.log.port import Log
from nilometer.pipeline.dead_letters import DeadLetters
from nilometer.query.blobs import BlobReads


class LiveBlobs:
    """Knows them from the log, the dead letters and the store. Blocks; safe between threads.

    `group` is the group of the log that stores events.
    """

    def __init__(
        self,
        *,
        log: Log,
        group: str,
        dead_letters: DeadLetters,
        store: Store,
        now: Callable[[], datetime] = clock.now,
    ) -> None:
        self._log = log
        self._group = group
        self._dead_letters = dead_letters
        self._reads = BlobReads(store)
        self._now = now

    def referenced(self, project_id: int, names: Sequence[ObjectName]) -> set[str]:
        """The keys of those objects that an event names, or may: one whose dead letter is open or
        was replayed. Raises the store's and the database's errors."""
        kept = self._dead_letters.live_uuids(project_id, {name.event_id for name in names})
        named = self._reads.named_keys(project_id, names)
        return named | {name.key for name in names if name.event_id in kept}

    def caught_up_to(self) -> int | None:
        """Microseconds: what was accepted before is stored or dead-lettered. None if unknown.

        A rewind brings it back: those records wait again, and the store may have lost their rows.
        """
        now = clock.to_micros(self._now())  # before the log is asked: what comes meanwhile is later
        state = self._log.state()
        lag = state.groups.get(self._group)
        if lag is None:
            return None
        known = now if state.as_of is None else min(now, state.as_of)
        return lag.oldest_at if lag.records else known
