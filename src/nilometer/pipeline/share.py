"""How many of the recent events may be dead-lettered before it is the release that is bad."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence


class DeadLetterShare:
    """The outcomes of the last `window` events: True is a dead letter.

    The limit is `share` of a full window, so that the first event after a start, when it is bad,
    is not 100 % of everything. Records are passed whole: one whose first dead letter is within the
    limit may go past it with the others, or a batch of many bad events could never be passed.
    """

    def __init__(self, share: float, window: int) -> None:
        self._limit = max(1, int(share * window))
        self._recent: deque[bool] = deque(maxlen=window)

    def admitted(self, records: Sequence[Sequence[bool]]) -> int:
        """How many of these records, each the outcomes of its events, may have their effect, from
        the first on: all, or those before the one whose first dead letter would be one too many.
        Counts nothing."""
        recent = self._recent.copy()
        for index, outcomes in enumerate(records):
            if not self._admits(recent, outcomes):
                return index
            recent.extend(outcomes)
        return len(records)

    def count(self, outcomes: Sequence[bool]) -> None:
        """The events of one record have had their effect."""
        self._recent.extend(outcomes)

    def forget(self) -> None:
        """Start with an empty window: an operator wants another try."""
        self._recent.clear()

    def _admits(self, recent: deque[bool], outcomes: Sequence[bool]) -> bool:
        if True not in outcomes:
            return True
        window = recent.copy()
        window.extend(outcomes[: outcomes.index(True) + 1])
        return sum(window) <= self._limit
