"""Carries out passes over what is stored, one after the other, in a thread of its own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

from nilometer import failpoints
from nilometer.errors import NilometerError, Unavailable
from nilometer.pipeline.batch import Tombstoned, located
from nilometer.pipeline.rewriting.jobs import Key, Kind, PageResult, Rewrite, Rewrites, State
from nilometer.pipeline.turns import Turns

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows of a pass: what is found in them, and what `Pass.write` has to write, which is
    the pass's own."""

    result: PageResult
    work: Any


class Pass(Protocol):
    """What one kind of pass does. Every method is within the one project of the rewrite, and
    raises StoreUnavailable."""

    def total(self, rewrite: Rewrite) -> int:
        """How many rows there are now."""
        ...

    def page(self, rewrite: Rewrite, after: Key | None, until: Key | None) -> Page | None:
        """The rows that follow `after`, up to and with `until`; None when there are no more."""
        ...

    def write(self, rewrite: Rewrite, page: Page) -> None:
        """Write a page; durable when it returns. Of a page that was written already, wholly or in
        part, it makes no more than one: a reader sees no difference."""
        ...


class RewriteWorker:
    """Carries out passes until `stop`. What is unfinished then goes on at the next start.

    A part that is down makes a pass wait; any other error ends it as failed.
    """

    def __init__(
        self,
        rewrites: Rewrites,
        passes: Mapping[Kind, Pass],
        *,
        tombstoned: Tombstoned,
        settle: Callable[[], None],
        alone: Callable[[], AbstractContextManager[bool]] = lambda: nullcontext(True),
        interval: float = 5,
        pause: float = 0.02,
    ) -> None:
        """`settle` is called before a pass begins: when it returns, whatever the pipeline writes
        is mapped and priced as this process does it now. `alone` says, of several workers, whether
        it is this one's turn. Asks `tombstoned` before each page, and
        then rests `pause` seconds, because others need the interpreter too."""
        self._rewrites = rewrites
        self._passes = passes
        self._tombstoned = tombstoned
        self._settle = settle
        self._alone = alone
        self._interval = interval
        self._pause = pause
        self._turns = Turns()
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, in a thread."""
        self._thread = threading.Thread(target=self._run, name="rewrites", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after the page at hand, and wait for that."""
        self._stopping.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    def wake(self) -> None:
        """Look now: a pass was asked for. Returns at once."""
        self._wake.set()

    def settle(self, timeout: float) -> None:
        """Wait until the page now under way has ended: all that follow see every tombstone of
        before the call. Raises Unavailable when that takes longer."""
        self._turns.wait(timeout)

    def run_once(self) -> int:
        """Carry out every pass that is asked for, in this thread; how many ended.

        One that has to wait does not keep the others. Raises DatabaseUnavailable.
        """
        ended = 0
        for rewrite in self._rewrites.unfinished():
            if self._stopping.is_set():
                break
            try:
                ended += self._carry_out(rewrite)
            except Unavailable as error:
                _log.warning("%s %s waits: %s", rewrite.kind, rewrite.id, error.detail)
            except Exception as error:  # noqa: BLE001  (whatever it is, it ends this pass only)
                self._rewrites.finish(rewrite.id, State.FAILED, _sentence(error))
                ended += 1
        return ended

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                with self._alone() as mine:
                    if mine:
                        self.run_once()
            except NilometerError as error:
                _log.warning("rewrites wait: %s", error.detail)
            except Exception as error:  # noqa: BLE001  (the thread must not end unseen)
                _log.error("rewrites failed and are tried again: %s", located(error))
            self._wake.wait(self._interval)
            self._wake.clear()

    def _carry_out(self, rewrite: Rewrite) -> bool:
        """Go on to the end; False when stopped before it."""
        self._settle()
        carried = self._passes[rewrite.kind]
        if not self._rewrites.begin(rewrite.id, carried.total(rewrite)):
            return True
        self._write_again(carried, rewrite)
        after = rewrite.page_end
        while not self._stopping.wait(self._pause):
            with self._turns.turn():
                if self._tombstoned([rewrite.project_id]):
                    self._rewrites.finish(rewrite.id, State.CANCELLED, "The project is deleted.")
                    return True
                page = carried.page(rewrite, after, None)
                if page is None:
                    self._rewrites.finish(rewrite.id, State.DONE)
                    return True
                if not self._rewrites.plan(rewrite.id, after, page.result):
                    return True
                self._write(carried, rewrite, page)
            after = page.result.end
        return False

    def _write_again(self, carried: Pass, rewrite: Rewrite) -> None:
        """The page at which the last process stopped: it is counted, and may not be whole."""
        after, until = rewrite.page_start, rewrite.page_end
        while until is not None and not rewrite.dry_run and not self._stopping.is_set():
            with self._turns.turn():
                gone = self._tombstoned([rewrite.project_id])
                page = None if gone else carried.page(rewrite, after, until)
                if page is None:
                    return
                self._write(carried, rewrite, page)
            after = page.result.end

    def _write(self, carried: Pass, rewrite: Rewrite, page: Page) -> None:
        if rewrite.dry_run:
            return
        failpoints.hit("rewrite_planned")
        carried.write(rewrite, page)
        failpoints.hit("rewrite_written")


def _sentence(error: Exception) -> str:
    if isinstance(error, NilometerError):
        return error.detail
    return f"The rewrite failed: {located(error)}."
