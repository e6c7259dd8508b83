"""What the metrics say of each event, once, however often its batch is tried again."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

from nilometer.log.port import Position
from nilometer.observability import metrics
from nilometer.pipeline.batch import Bad, Carried, Dropped, Good


class Tally:
    """Counts the events of a hand: as stored or repeated when they are written, as dead letters
    when their record is passed.

    An event that was written stays known until its record is passed, so that a commit that fails
    does not make it a duplicate of itself.
    """

    def __init__(self) -> None:
        self._counted: dict[Position, set[int]] = {}
        self._stored = metrics.PIPELINE_EVENTS.labels("stored")
        self._duplicate = metrics.PIPELINE_EVENTS.labels("duplicate")
        self._dead_letter = metrics.PIPELINE_EVENTS.labels("dead_letter")
        self._dropped = metrics.PIPELINE_EVENTS.labels("dropped")

    def written(self, event: Good, new: bool) -> None:
        """The event has had its effect on the store: it is there since now (`new`), or was there
        before."""
        counted = self._counted.setdefault(event.record.position, set())
        if event.index in counted:
            return
        counted.add(event.index)
        if not new:
            self._duplicate.inc()
            return
        self._stored.inc()
        waited = time.time_ns() // 1000 - event.rows.accepted_at
        metrics.QUERYABLE_SECONDS.observe(max(0, waited) / 1e6)

    def finished(self, batch: Sequence[Carried]) -> None:
        """These were committed: none of them comes again."""
        for each in batch:
            self._counted.pop(each.record.position, None)
        outcomes = [outcome for each in batch for outcome in each.outcomes]
        reasons = Counter(outcome.reason for outcome in outcomes if isinstance(outcome, Bad))
        for reason, count in reasons.items():
            metrics.DEAD_LETTERS.labels(reason).inc(count)
        self._dead_letter.inc(reasons.total())
        self._dropped.inc(sum(isinstance(outcome, Dropped) for outcome in outcomes))
