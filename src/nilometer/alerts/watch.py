"""Looks by every alert rule, again and again, in a thread of its own.

Of several workers one looks; should two, what fires fires once all the same. What is measured is
asked for each time, so that nothing is lost while the store or the database is away: the next look
finds what is so then.
"""

from __future__ import annotations

import heapq
import logging
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime, timedelta

from nilometer.alerts.condition import Reading
from nilometer.alerts.days import tell
from nilometer.alerts.firing import settle
from nilometer.alerts.kinds import Source
from nilometer.alerts.rules import AlertRules, StoredRule
from nilometer.alerts.unusual import unusual
from nilometer.budgets.raising import Raise, unheard
from nilometer.database.engine import Database
from nilometer.domain import clock
from nilometer.errors import NilometerError
from nilometer.observability import metrics
from nilometer.pipeline.batch import located
from nilometer.usage.groups import Groups
from nilometer.usage.query import UsageQuery

LOOK_SECONDS = 30.0
# Rules never take more than a fifth of a core.
_REST = 4
_NEVER = datetime.min.replace(tzinfo=UTC)

Usage = Callable[[int, UsageQuery], Groups]
"""Answers within one project."""
ReadingsOf = Callable[[StoredRule, datetime], Sequence[Reading]]

_log = logging.getLogger(__name__)


class RuleWatch:
    """Looks until `stop`. What is down makes it wait for the next time."""

    def __init__(
        self,
        database: Database,
        usage: Usage,
        readings: ReadingsOf,
        *,
        raising: Raise = unheard,
        told: Callable[[], None] = lambda: None,
        alone: Callable[[], AbstractContextManager[bool]] = lambda: nullcontext(True),
        interval: float = LOOK_SECONDS,
        now: Callable[[], datetime] = clock.now,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        """`raising` accepts exceptions; `told` is called after something fired, for who sends
        notifications and works on exceptions. `alone` says, of several workers, which one looks."""
        self._timer = timer
        self._database = database
        self._rules = AlertRules(database)
        self._usage = usage
        self._readings = readings
        self._raising = raising
        self._told = told
        self._alone = alone
        self._interval = interval
        self._now = now
        # When a rule was last looked at, by its id.
        self._looked: dict[str, datetime] = {}
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
        """Look by every rule, in this thread; how many times something was told. One that fails
        does not keep the others. Raises DatabaseUnavailable."""
        return self._look_by(self._rules.everything())

    def _look_by(self, rules: Sequence[StoredRule]) -> int:
        told = 0
        for stored in rules:
            if self._stopping.is_set():
                break
            try:
                told += self._look(stored)
            except NilometerError as error:
                metrics.ALERT_LOOKS.labels("failed").inc()
                _log.warning("alert rule %s waits: %s", stored.rule.id, error.detail)
            except Exception as error:  # noqa: BLE001  (what is wrong with one is no other's)
                metrics.ALERT_LOOKS.labels("failed").inc()
                _log.error("alert rule %s cannot be looked at: %s", stored.rule.id, located(error))
            else:
                metrics.ALERT_LOOKS.labels("ok").inc()
        if told:
            metrics.ALERTS.inc(told)
            self._told()
        return told

    def _look(self, stored: StoredRule) -> int:
        now = self._now()
        if stored.rule.measure.source is Source.DAYS:
            return self._look_at_days(stored, now)
        return settle(self._database, stored, self._readings(stored, now), now, self._raising)

    def _look_at_days(self, stored: StoredRule, now: datetime) -> int:
        """Today and yesterday: usage that comes a day late is still told of."""
        project = stored.project_id
        findings = [
            finding
            for day in (now.date() - timedelta(days=1), now.date())
            for finding in unusual(lambda query: self._usage(project, query), stored.rule, day)
        ]
        return tell(self._database, stored, findings, now, self._raising) if findings else 0

    def _round(self) -> None:
        """Look by the rules whose kind is due."""
        found = self._rules.everything()
        present = {each.rule.id for each in found}
        self._looked = {key: at for key, at in self._looked.items() if key in present}
        now = self._now()
        self._look_fairly([each for each in found if self._is_due(each, now)], now)

    def _look_fairly(self, due: Sequence[StoredRule], now: datetime) -> None:
        """Look by rules for as long as a round may take. The next is one of the project that has
        taken the least time; each project has its share of the time, however slow others' rules
        are. What is left over comes first in the next round."""
        waiting: dict[int, deque[StoredRule]] = defaultdict(deque)
        for each in sorted(due, key=self._last_looked):
            waiting[each.project_id].append(each)
        work = self._interval / (1 + _REST)
        share = work / max(1, len(waiting))
        turns, total = [(0.0, project_id) for project_id in sorted(waiting)], 0.0
        while turns and not self._stopping.is_set():
            spent, project_id = heapq.heappop(turns)
            if spent >= share and total >= work:
                break
            stored = waiting[project_id].popleft()
            self._looked[stored.rule.id] = now
            begun = self._timer()
            self._look_by([stored])
            took = self._timer() - begun
            total += took
            if waiting[project_id]:
                heapq.heappush(turns, (spent + took, project_id))

    def _last_looked(self, stored: StoredRule) -> datetime:
        return self._looked.get(stored.rule.id, _NEVER)

    def _is_due(self, stored: StoredRule, now: datetime) -> bool:
        last = self._looked.get(stored.rule.id)
        return last is None or now - last >= stored.rule.measure.every

    def _run(self) -> None:
        while not self._stopping.is_set():
            begun = time.monotonic()
            try:
                with self._alone() as mine:
                    if mine:
                        self._round()
            except NilometerError as error:
                _log.warning("alert rules wait: %s", error.detail)
            except Exception as error:  # noqa: BLE001  (the thread must not end unseen)
                _log.error("alert rules failed and are tried again: %s", type(error).__name__)
            self._stopping.wait(max(self._interval, _REST * (time.monotonic() - begun)))
