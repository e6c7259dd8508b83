"""The hard stop: no call begins when a budget of it has nothing left.

What is known of budgets is asked for in the background, so that a call only compares numbers. To
what was told this adds what the process' own calls cost since then: where one process does all of
the spending, only the calls that are under way when a budget is used up go beyond it. The sum is
never more than what was spent: each answer, with the process' own calls after it, is a lower bound,
and the highest of them holds.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Context, Decimal, Inexact

from nilometer.errors import BudgetExceeded, NilometerError
from nilometer.sdk.assembly import Assembler
from nilometer.sdk.budget_standing import Standing, Standings, Subject
from nilometer.sdk.observation import Observation, Observed, Seen
from nilometer.sdk.scopes import Scopes

_LOG = logging.getLogger(__name__)

BOUND_SECONDS = 60.0
"""How long an answer counts as a lower bound. A cost that is corrected downwards, or that the
process priced too high, is forgotten after this."""
STALE_SECONDS = 60.0
"""An answer that is older (or than four intervals) says nothing any more."""
UNKNOWN = "budget_unknown"

_EXACT = Context(prec=80, traps=[Inexact])


class _Spending:
    """What is spent of one budget in one period, as far as this process can tell."""

    __slots__ = ("_answers", "_base", "_own", "standing")

    def __init__(self, standing: Standing) -> None:
        self.standing = standing
        self._own = Decimal(0)
        self._base = Decimal(0)
        self._answers: deque[tuple[float, Decimal]] = deque()

    def told(self, standing: Standing, now: float) -> None:
        self.standing = standing
        self._answers.append((now, _EXACT.subtract(standing.spent, self._own)))
        while self._answers[0][0] < now - BOUND_SECONDS:
            self._answers.popleft()
        self._base = max(base for _, base in self._answers)

    def add(self, cost: Decimal) -> None:
        while True:
            before = self._own
            after = _EXACT.add(before, cost)
            if self._own is before:  # and nobody who interrupted this thread has added to it
                self._own = after
                return

    @property
    def spent(self) -> Decimal:
        return _EXACT.add(self._base, self._own)


@dataclass(frozen=True, slots=True)
class _Known:
    """The last answer: what there is to compare with, until `stale_at` (monotonic seconds)."""

    spendings: tuple[_Spending, ...] = ()
    stale_at: float = 0.0


class BudgetGuard:
    """Refuses calls. Safe between threads and tasks; `admit` and `count` do no I/O and wait for
    nobody else's."""

    def __init__(
        self,
        opened: Callable[[], Standings],
        process: Scopes,
        assembler: Assembler | None,
        *,
        interval: float = 5.0,
        fail_closed: bool = False,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`opened` is called for each process. `process` are the scopes of everything in this one,
        and `assembler` prices its calls; without one they count when the next answer has them."""
        self._opened = opened
        self._standings = opened()
        self._process = process
        self._assembler = assembler
        self._interval = interval
        self._stale_after = max(STALE_SECONDS, 4 * interval)
        self._fail_closed = fail_closed
        self._monotonic = monotonic
        self._wall = wall
        self._known = _Known()
        # A stream that the collector finds is counted on whichever thread it runs on.
        self._counting = threading.RLock()
        self._asking = threading.Lock()
        self._asker: int | None = None
        self._stopping = threading.Event()
        self._asked = threading.Event()
        self._pid = os.getpid()
        self._priced = False
        self._said: set[tuple[str, datetime]] = set()

    def start(self, timeout: float = 0.0) -> None:
        """Ask from now on, in a thread, and wait for so many seconds at most until it was asked for
        the first time. A forked child begins anew with its first call."""
        threading.Thread(target=self._run, name="nilometer-budgets", daemon=True).start()
        self._asked.wait(timeout)

    def close(self) -> None:
        """Ask no more. What is known holds until it is stale."""
        self._stopping.set()
        if self._asking.acquire(timeout=1):  # else it is in use, and ends with the process
            self._standings.close()
            self._asking.release()

    def refresh(self) -> bool:
        """Ask now, in this thread; False when no answer came, and where this is called out of
        itself, as the handler of what it logs may do."""
        if self._pid != os.getpid():
            self._after_fork()
        if self._asker == threading.get_ident():
            return False
        with self._asking:
            if self._stopping.is_set():
                return False
            try:
                self._asker = threading.get_ident()
                self._learn(self._standings.ask())
            except Exception as error:  # noqa: BLE001  (whatever it is, it is no answer)
                reason = error.code if isinstance(error, NilometerError) else type(error).__name__
                _LOG.warning("budgets could not be asked for: %s", reason)
                return False
            finally:
                self._asker = None
            return True

    def admit(self, service: str, models: Sequence[str | None], scopes: Scopes) -> None:
        """Raises BudgetExceeded where a budget of such a call has nothing left, and where nothing
        is known and the guard fails closed. Nothing else."""
        if self._pid != os.getpid():
            self._after_fork()
        known = self._known
        if self._monotonic() > known.stale_at:
            if self._fail_closed:
                raise BudgetExceeded(
                    "No call is made, as it is not known how the budgets stand.", code=UNKNOWN
                )
            return
        if not known.spendings:
            return
        subject = self._subject(service, models, scopes)
        for each in known.spendings:
            if each.standing.covers(subject) and self._used_up(each):
                raise self._refusal(each)

    def count(self, seen: Observed) -> None:
        """Add a call that ended to the budgets it counts for, as far as it has a price."""
        spendings = self._known.spendings
        if not spendings or self._assembler is None:
            return
        told = seen.seen
        subject = self._subject(
            told.get("service") or "",
            (told.get("model"), told.get("requested_model")),
            seen.scopes.changed({name: told.get(name) for name in _OWN if name in told}),
        )
        covering = [each for each in spendings if each.standing.covers(subject)]
        if not covering:
            return
        metric = self._assembler.metric(seen)
        cost = metric.cost_usd if metric.cost_usd is not None else metric.reported_cost_usd
        if cost:
            with self._counting:
                for each in covering:
                    each.add(cost)

    def _learn(self, found: Sequence[Standing]) -> None:
        now = self._monotonic()
        with self._counting:
            before = {_key(each.standing): each for each in self._known.spendings}
            spendings: list[_Spending] = []
            for standing in found:
                each = before.get(_key(standing)) or _Spending(standing)
                each.told(standing, now)
                spendings.append(each)
        self._known = _Known(tuple(spendings), now + self._stale_after)

    def _subject(self, service: str, models: Sequence[str | None], scopes: Scopes) -> Subject:
        process = self._process
        return Subject(
            service,
            tuple(filter(None, models)),
            scopes.user_id or process.user_id,
            scopes.job_id or process.job_id,
            scopes.environment or process.environment,
        )

    def _used_up(self, spending: _Spending) -> bool:
        standing = spending.standing
        if spending.spent < standing.limit:
            return False
        return self._wall() < standing.period_end.timestamp()

    def _refusal(self, spending: _Spending) -> BudgetExceeded:
        standing, spent = spending.standing, spending.spent
        of = standing.kind if not standing.value else f"{standing.kind} {standing.value}"
        detail = (
            f"The budget {standing.name} ({of}) is used up: {spent:f} of {standing.limit:f} USD. "
            f"Its period ends at {standing.period_end.isoformat()}."
        )
        if _key(standing) not in self._said:
            self._said.add(_key(standing))
            _LOG.warning("calls are stopped: the budget %s is used up", standing.id)
        return BudgetExceeded(
            detail,
            budget_id=standing.id,
            budget=standing.name,
            scope=standing.kind,
            value=standing.value,
            spent=spent,
            limit=standing.limit,
            ends_at=standing.period_end,
        )

    def _after_fork(self) -> None:
        """Locks may be held by threads that a child does not have, and connections are shared."""
        asking = threading.Lock()
        with asking:  # who asks meanwhile must not do so by what is the parent's
            self._counting, self._asking, self._asker = threading.RLock(), asking, None
            self._pid = os.getpid()
            if self._stopping.is_set():
                return
            self._standings = self._opened()
        self.start()

    def _run(self) -> None:
        pause = 0.0
        while not self._stopping.wait(pause):
            self.refresh()
            self._asked.set()
            self._load_prices()
            pause = self._interval * random.uniform(0.9, 1.1)  # noqa: S311  (spreads processes)

    def _load_prices(self) -> None:
        """The first price takes about a second, which is no call's to wait."""
        assembler = self._assembler
        if assembler is not None and not self._priced and self._known.spendings:
            self._priced = True
            try:
                assembler.metric(Observation(_ANY_CALL, self._process, 0.0))
            except Exception:  # noqa: BLE001  (how budgets stand is asked all the same)
                _LOG.debug("no price could be made", exc_info=True)


_ANY_CALL: Seen = {
    "service": "openai",
    "model": "gpt-4o-mini",
    "operation": "completion",
    "input_tokens": 1,
    "output_tokens": 1,
}
_OWN = ("user_id", "job_id", "environment")


def _key(standing: Standing) -> tuple[str, datetime]:
    return standing.id, standing.period_start
