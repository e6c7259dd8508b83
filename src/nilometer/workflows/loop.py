"""A thread that looks for work again and again, and at once when it is woken."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from nilometer.errors import NilometerError
from nilometer.workflows.located import located

_log = logging.getLogger(__name__)


class Loop:
    """Calls `look`, which does what there is to do and returns whether there may be more.

    Looks again when there may be, when woken, and after `interval` seconds; so also after an error,
    which is logged: the thread must not end unseen.

    Between the beginnings of two looks, of which the first found something, lie at least `pace`
    seconds: what comes meanwhile is done together. Whoever comes first waits for nothing.
    """

    def __init__(
        self, name: str, look: Callable[[], bool], interval: float, *, pace: float = 0
    ) -> None:
        self._name = name
        self._look = look
        self._interval = interval
        self._pace = pace
        self._changed = threading.Condition()
        self._asked = 0
        self._answered = 0
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the look under way, and wait for it. May be called again, or before `start`."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    def wake(self) -> None:
        """Look now. Returns at once."""
        with self._changed:
            self._asked += 1
            self._changed.notify_all()

    def turn(self, timeout: float) -> bool:
        """Wake it, and wait until a look that began after this call has found nothing more; False
        when that takes longer than so many seconds."""
        with self._changed:
            self._asked += 1
            asked = self._asked
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._answered >= asked or self._stopping, timeout)
            return self._answered >= asked

    def _run(self) -> None:
        while not self._stopping:
            asked, began = self._asked, time.monotonic()
            try:
                more = self._look()
            except NilometerError as error:
                _log.warning("%s: trying again: %s", self._name, error.detail)
                self._pause(lambda: self._stopping)
            except Exception as error:  # noqa: BLE001  (the thread must not end unseen)
                _log.error("%s: trying again: %s", self._name, located(error))
                self._pause(lambda: self._stopping)
            else:
                if not more:
                    self._answer(asked)
                elif (early := began + self._pace - time.monotonic()) > 0:
                    self._pause(lambda: self._stopping, early)

    def _answer(self, asked: int) -> None:
        with self._changed:
            self._answered = asked
            self._changed.notify_all()
        self._pause(lambda: self._asked > self._answered or self._stopping)

    def _pause(self, until: Callable[[], bool], seconds: float | None = None) -> None:
        with self._changed:
            self._changed.wait_for(until, self._interval if seconds is None else seconds)
