"""Looks for unusual days, every few minutes, in a thread of its own.

Today and yesterday are looked at: usage that comes a day late is still told of. Of several workers
one looks; should two, a day is told once all the same.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timedelta

from nilometer.budgets.rules import AlertRules, StoredRule
from nilometer.budgets.unusual import unusual
from nilometer.domain import clock
from nilometer.errors import NilometerError
from nilometer.pipeline.batch import located
from nilometer.usage.groups import Groups
from nilometer.usage.query import UsageQuery

LOOK_SECONDS = 300.0

_log = logging.getLogger(__name__)


class RuleWatch:
    """Looks until `stop`. What is down makes it wait for the next time."""

    def __init__(
        self,
        rules: AlertRules,
        usage: Callable[[int, UsageQuery], Groups],
        *,
        told: Callable[[], None] = lambda: None,
        alone: Callable[[], AbstractContextManager[bool]] = lambda: nullcontext(True),
        interval: float = LOOK_SECONDS,
        now: Callable[[], datetime] = clock.now,
    ) -> None:
        """`usage` answers within one project; `told` is called after something fired, for who sends
        notifications. `alone` says, of several workers, which one looks."""
        self._rules = rules
        self._usage = usage
        self._told = told
        self._alone = alone
        self._interval = interval
        self._now = now
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, in a thread."""
        self._thread = threading.Thread(target=self._run, name="alert-rules", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after the rule at hand, and wait for that."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def run_once(self) -> int:
        """Look by every rule, in this thread; how many days were told of. One that fails does not
        keep the others. Raises DatabaseUnavailable."""
        fired = 0
        for stored in self._rules.everything():
            if self._stopping.is_set():
                break
            try:
                fired += self._look(stored)
            except NilometerError as error:
                _log.warning("alert rule %s waits: %s", stored.rule.id, error.detail)
            except Exception as error:  # noqa: BLE001  (what is wrong with one is no other's)
                _log.error("alert rule %s cannot be looked at: %s", stored.rule.id, located(error))
        if fired:
            self._told()
        return fired

    def _look(self, stored: StoredRule) -> int:
        now = self._now()
        project = stored.project_id
        findings = [
            finding
            for day in (now.date() - timedelta(days=1), now.date())
            for finding in unusual(lambda query: self._usage(project, query), stored.rule, day)
        ]
        return self._rules.fire(stored, findings, now) if findings else 0

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                with self._alone() as mine:
                    if mine:
                        self.run_once()
            except NilometerError as error:
                _log.warning("alert rules wait: %s", error.detail)
            except Exception as error:  # noqa: BLE001  (the thread must not end unseen)
                _log.error("alert rules failed and are tried again: %s", type(error).__name__)
            self._stopping.wait(self._interval)
