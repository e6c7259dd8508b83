"""How many of the recent records may be dead-lettered before it is the release that is bad."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence


class DeadLetterShare:
    """The outcomes of the last `window` records: True is a dead letter.

    The limit is `share` of a full window, so that the first record after a start, when it is bad,
    is not 100 % of everything.
    """

    def __init__(self, share: float, window: int) -> None:
        self._limit = max(1, int(share * window))
        self._recent: deque[bool] = deque(maxlen=window)

    def admitted(self, outcomes: Sequence[bool]) -> int:
        """How many of these, from the first on, may have their effect: all, or those before the
        dead letter that would be one too many. Counts nothing."""
        recent = self._recent.copy()
        bad = sum(recent)
        for index, outcome in enumerate(outcomes):
            if len(recent) == recent.maxlen:
                bad -= recent[0]
            bad += outcome
            if outcome and bad > self._limit:
                return index
            recent.append(outcome)
        return len(outcomes)

    def count(self, outcomes: Sequence[bool]) -> None:
        """These have had their effect."""
        self._recent.extend(outcomes)

    def forget(self) -> None:
        """Start with an empty window: an operator wants another try."""
        self._recent.clear()
