"""Work done in batches, of which one bad part must not stop the others."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from nilometer.errors import Unavailable

Part = TypeVar("Part")


class Bisecting(Generic[Part]):
    """Batches in hand. `attempt` does one, all or nothing; when it raises, each half is done apart,
    down to the part that raises by itself, which goes to `alone` with its error.

    `Unavailable` is nobody's fault: it is passed on, and what is left stays in hand. For one
    thread.
    """

    def __init__(
        self,
        attempt: Callable[[list[Part]], None],
        alone: Callable[[Part, Exception], None],
    ) -> None:
        self._attempt = attempt
        self._alone = alone
        self._batches: deque[list[Part]] = deque()

    @property
    def parts(self) -> list[Part]:
        """What is in hand."""
        return [part for batch in self._batches for part in batch]

    def add(self, batch: Sequence[Part]) -> None:
        """Another batch, to be done after those in hand."""
        if batch:
            self._batches.append(list(batch))

    def drain(self) -> None:
        """Do everything in hand. Raises Unavailable."""
        while self._batches:
            batch = self._batches[0]
            try:
                self._attempt(batch)
            except Unavailable:
                raise
            except Exception as error:  # noqa: BLE001  (whatever a stage raises)
                if len(batch) > 1:
                    middle = len(batch) // 2
                    self._batches[0] = batch[middle:]
                    self._batches.appendleft(batch[:middle])
                    continue
                self._alone(batch[0], error)
            self._batches.popleft()
