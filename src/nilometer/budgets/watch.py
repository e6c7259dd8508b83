"""Evaluates budgets as usage arrives, and all of them every minute, in a thread of its own.

The pipeline says whose usage it has stored, and the budgets that it may count for are evaluated at
once. A sweep finds what no pipeline told of: a period that began, a price that was changed, what
another worker left. Any number of workers may watch; a threshold fires once all the same.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.exc import IntegrityError

from nilometer.budgets.evaluation import Evaluation, assess
from nilometer.budgets.firing import fire, is_due
from nilometer.budgets.raising import Raise, unheard
from nilometer.budgets.spend import Spend
from nilometer.budgets.store import Budgets, StoredBudget
from nilometer.clickhouse.store import StoreUnavailable
from nilometer.database.engine import Database, DatabaseUnavailable
from nilometer.domain import clock
from nilometer.errors import NilometerError
from nilometer.observability import metrics
from nilometer.pipeline.batch import located

_log = logging.getLogger(__name__)

SWEEP_SECONDS = 60.0
_LEAST_PAUSE = 1.0
# A round rests so many times as long as it took: budgets never take more than a fifth of a core.
_REST = 4
_LONGEST_WAIT = 30.0

SpendOf = Callable[[int, Sequence[int]], Spend]
"""The spend of a project, given the projects whose calls a global budget of it counts."""

_Key = tuple[str, datetime, datetime]


@dataclass(slots=True)
class Outcome:
    """What a round did. `failed` are projects whose calls could not be asked for now, `broken`
    those whose budgets cannot be evaluated for a reason of their own; the next sweep tries."""

    evaluated: int = 0
    fired: int = 0
    failed: int = 0
    broken: int = 0


class BudgetWatch:
    """Evaluates budgets until `stop`. What is down makes it wait; nothing is forgotten."""

    def __init__(
        self,
        database: Database,
        spend_of: SpendOf,
        *,
        raising: Raise = unheard,
        told: Callable[[], None] = lambda: None,
        alone: Callable[[], AbstractContextManager[bool]] = lambda: nullcontext(True),
        sweep_seconds: float = SWEEP_SECONDS,
        pause: float = _LEAST_PAUSE,
        now: Callable[[], datetime] = clock.now,
    ) -> None:
        """`raising` accepts exceptions; `told` is called after something fired, for who sends
        notifications and works on exceptions. `alone` says, of several workers, which one sweeps.
        `pause` is between two rounds at least, in which what arrives is gathered."""
        self._database = database
        self._budgets = Budgets(database)
        self._spend_of = spend_of
        self._raising = raising
        self._told = told
        self._alone = alone
        self._sweep_seconds = sweep_seconds
        self._pause = pause
        self._now = now
        self._arriving = threading.Lock()
        self._arrived: set[int] = set()
        # Thresholds that are known to have fired, by budget, period and the budget's version: of
        # one that was changed and changed back, alerts may have lapsed meanwhile.
        self._fired: dict[_Key, frozenset[int]] = {}
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, in a thread."""
        self._thread = threading.Thread(target=self._run, name="budgets", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after the project at hand, and wait for that."""
        self._stopping.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    def stored(self, project_ids: Iterable[int]) -> None:
        """Usage of these projects can be read since now. Returns at once."""
        with self._arriving:
            self._arrived.update(project_ids)
        self._wake.set()

    def run_once(self) -> Outcome:
        """Evaluate the budgets of what has arrived, in this thread. Raises DatabaseUnavailable;
        what it did not get to is still to be done."""
        with self._arriving:
            arrived, self._arrived = self._arrived, set()
        if not arrived:
            return Outcome()
        try:
            return self._evaluate_all(self._budgets.concerning(arrived))
        except BaseException:
            self.stored(arrived)
            raise

    def sweep(self) -> Outcome:
        """Evaluate every budget, in this thread. Raises DatabaseUnavailable."""
        found = self._budgets.everything()
        present = {(each.budget.id, each.updated_at) for each in found}
        self._fired = {
            key: fired for key, fired in self._fired.items() if (key[0], key[2]) in present
        }
        return self._evaluate_all(found)

    def _run(self) -> None:
        failures, next_sweep = 0, 0.0
        while not self._stopping.is_set():
            begun = time.monotonic()
            sweeping = begun >= next_sweep
            if sweeping:
                next_sweep = begun + self._sweep_seconds
            failures = 0 if self._round(sweeping=sweeping) else failures + 1
            rest = max(self._pause, _REST * (time.monotonic() - begun))
            self._stopping.wait(max(rest, min(_LONGEST_WAIT, 2.0**failures)) if failures else rest)
            self._wake.wait(max(0.0, next_sweep - time.monotonic()))
            self._wake.clear()

    def _round(self, *, sweeping: bool) -> bool:
        """Whether nothing failed."""
        try:
            failed = self.run_once().failed
            if sweeping:
                with self._alone() as mine:
                    failed += self.sweep().failed if mine else 0
        except NilometerError as error:
            _log.warning("budgets wait: %s", error.detail)
        except Exception as error:  # noqa: BLE001  (the thread must not end unseen)
            _log.error("budgets failed and are tried again: %s", type(error).__name__)
        else:
            return not failed
        return False

    def _evaluate_all(self, found: Iterable[StoredBudget]) -> Outcome:
        outcome = Outcome()
        by_project: dict[int, list[StoredBudget]] = defaultdict(list)
        for each in found:
            by_project[each.project_id].append(each)
        for project_id, budgets in by_project.items():
            if self._stopping.is_set():
                break
            self._try(project_id, budgets, outcome)
        return outcome

    def _try(self, project_id: int, budgets: list[StoredBudget], outcome: Outcome) -> None:
        """Evaluate the budgets of one project; one that fails does not keep the others."""
        try:
            with metrics.BUDGET_SECONDS.time():
                self._evaluate(project_id, budgets, outcome)
        except StoreUnavailable as error:
            outcome.failed += 1
            metrics.BUDGET_EVALUATIONS.labels("failed").inc()
            self.stored([project_id])
            _log.warning("budgets of project %d wait: %s", project_id, error.detail)
        except DatabaseUnavailable:
            raise
        except IntegrityError:  # another worker was faster: look at what it left
            self.stored([project_id])
        except Exception as error:  # noqa: BLE001  (what is wrong in one project is no other's)
            outcome.broken += 1
            metrics.BUDGET_EVALUATIONS.labels("failed").inc()
            _log.error("budgets of project %d cannot be evaluated: %s", project_id, located(error))
        else:
            metrics.BUDGET_EVALUATIONS.labels("ok").inc()

    def _evaluate(self, project_id: int, budgets: list[StoredBudget], outcome: Outcome) -> None:
        spend, now = self._spend(project_id, budgets), self._now()
        assessments = assess(spend, [each.budget for each in budgets], now)
        for stored, assessment in zip(budgets, assessments, strict=True):
            for evaluation in assessment.evaluations:
                outcome.evaluated += 1
                outcome.fired += self._fire(stored, evaluation, spend, now)

    def _spend(self, project_id: int, budgets: Iterable[StoredBudget]) -> Spend:
        organizations = {each.organization_id for each in budgets if each.is_global}
        projects = [each for one in organizations for each in self._budgets.projects_of(one)]
        return self._spend_of(project_id, projects)

    def _fire(
        self, stored: StoredBudget, evaluation: Evaluation, spend: Spend, now: datetime
    ) -> int:
        """Fire what is due; how many thresholds did. That nothing is due is remembered, so that it
        is not looked up for every call."""
        key = (stored.budget.id, evaluation.bounds.start, stored.updated_at)
        known = self._fired.get(key)
        if known is not None and known >= set(evaluation.crossed):
            return 0
        if not is_due(self._database, stored, evaluation):
            self._fired[key] = frozenset(evaluation.crossed)
            return 0
        if evaluation.bounds.end > now:
            [assessment] = assess(spend, [stored.budget], now, forecasts=True)
            evaluation = assessment.current
        fired = fire(self._database, stored, evaluation, now, self._raising)
        if fired:
            metrics.BUDGET_ALERTS.inc(len(fired))
            _log.info("budget %s: the thresholds %s fired", stored.budget.id, list(fired))
            self._told()
        return len(fired)
