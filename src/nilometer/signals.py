"""SIGTERM and SIGINT, from the first moment of a process to its last."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType, TracebackType


class StopSignals:
    """While entered, SIGTERM and SIGINT ask for a stop instead of ending the process.

    A stop that is asked for while the parts are still being built is seen once they are, and one
    more while they are being closed changes nothing: what is in flight is finished either way.
    """

    def __init__(self) -> None:
        self.asked = False
        self._tell: Callable[[], None] = lambda: None
        self._before: dict[int, object] = {}

    def __enter__(self) -> StopSignals:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def when_asked(self, tell: Callable[[], None]) -> None:
        """Call `tell` when a stop is asked for; at once if it has been."""
        self._tell = tell
        if self.asked:
            tell()

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True
        self._tell()
