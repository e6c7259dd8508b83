"""What the metrics say of each record, once, however often its batch is tried again."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

from nilometer.log.port import Position, Record
from nilometer.observability import metrics
from nilometer.pipeline.batch import Bad, Dropped, Outcome


class Tally:
    """Counts the records of a hand: as stored or repeated when they are written, as dead letters
    when they are passed.

    A record that was written stays known until it is passed, so that a commit that fails does not
    make it a duplicate of itself.
    """

    def __init__(self) -> None:
        self._counted: set[Position] = set()
        self._stored = metrics.PIPELINE_RECORDS.labels("stored")
        self._duplicate = metrics.PIPELINE_RECORDS.labels("duplicate")
        self._dead_letter = metrics.PIPELINE_RECORDS.labels("dead_letter")
        self._dropped = metrics.PIPELINE_RECORDS.labels("dropped")

    def written(self, record: Record, accepted_at: int | None) -> None:
        """The record has had its effect on the store: its event is there since now (`accepted_at`,
        microseconds), or was there before (None)."""
        if record.position in self._counted:
            return
        self._counted.add(record.position)
        if accepted_at is None:
            self._duplicate.inc()
            return
        self._stored.inc()
        metrics.QUERYABLE_SECONDS.observe(max(0, time.time_ns() // 1000 - accepted_at) / 1e6)

    def finished(self, outcomes: Sequence[Outcome]) -> None:
        """These were committed: none of them comes again."""
        self._counted.difference_update(outcome.record.position for outcome in outcomes)
        reasons = Counter(outcome.reason for outcome in outcomes if isinstance(outcome, Bad))
        for reason, count in reasons.items():
            metrics.DEAD_LETTERS.labels(reason).inc(count)
        self._dead_letter.inc(reasons.total())
        self._dropped.inc(sum(isinstance(outcome, Dropped) for outcome in outcomes))
