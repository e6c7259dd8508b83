"""Whose usage is being stored, and was: said by the pipeline, for who keeps answers made of it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Collection, Generator
from contextlib import contextmanager


class Arrivals:
    """Counts, by project, how often usage was stored by this process. Safe between threads; never
    blocks for long."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._arriving: Counter[int] = Counter()
        self._of: Counter[int] = Counter()
        self._all = 0

    @contextmanager
    def arriving(self, project_ids: Collection[int]) -> Generator[None]:
        """Usage of these projects can be read from some moment of the block on."""
        projects = set(project_ids)
        with self._lock:
            self._arriving.update(projects)
        try:
            yield
        finally:
            with self._lock:
                self._of.update(projects)
                self._all += bool(projects)
                self._arriving.subtract(projects)
                self._arriving += Counter()  # those that are left

    def of(self, project_id: int) -> int | None:
        """What differs once usage of the project was stored; None while some is being stored: who
        asks now may see it or not."""
        with self._lock:
            return None if self._arriving[project_id] else self._of[project_id]

    def of_all(self) -> int | None:
        """As `of`, of any project."""
        with self._lock:
            return None if self._arriving else self._all
