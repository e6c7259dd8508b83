"""Whose usage has just been stored: said by the pipeline, for who keeps answers made of it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Collection


class Arrivals:
    """Counts, by project, how often usage was stored by this process. Safe between threads; never
    blocks for long."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._of: Counter[int] = Counter()
        self._all = 0

    def stored(self, project_ids: Collection[int]) -> None:
        """Usage of these projects can be read since now."""
        with self._lock:
            self._of.update(project_ids)
            self._all += 1

    def of(self, project_id: int) -> int:
        """What differs once usage of the project was stored."""
        with self._lock:
            return self._of[project_id]

    def of_all(self) -> int:
        """What differs once usage of any project was stored."""
        with self._lock:
            return self._all
