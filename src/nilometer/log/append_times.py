"""Append times by offset, in memory, so that the lag is known without touching the disk."""

from __future__ import annotations

import bisect
import threading

_MAX_ENTRIES = 4096


class AppendTimes:
    """A sparse, bounded index from offset to append time. Thread-safe.

    A look-up answers the time of the nearest entry at or before the offset, which is at most one
    step early; the step starts at `step` microseconds and doubles whenever the index is full.
    """

    def __init__(self, *, step: int = 100_000, max_entries: int = _MAX_ENTRIES) -> None:
        self._max_entries = max_entries
        self._lock = threading.Lock()
        self._offsets: list[int] = []
        self._times: list[int] = []
        self._step = step

    def add(self, offset: int, at: int, *, exact: bool = False) -> None:
        """Note that the record at `offset` was appended at `at`. Offsets come in order.

        `exact` keeps the entry however near it is to the one before.
        """
        if self._times and not exact and at - self._times[-1] < self._step:
            return
        with self._lock:
            if len(self._offsets) >= self._max_entries:
                self._thin()
            self._offsets.append(offset)
            self._times.append(at)

    def at(self, offset: int) -> int | None:
        """The append time of the record at `offset`, to within a step; None if nothing is known."""
        with self._lock:
            index = bisect.bisect_right(self._offsets, offset) - 1
            return self._times[index] if index >= 0 else None

    def _thin(self) -> None:
        del self._offsets[1::2], self._times[1::2]
        self._step *= 2
