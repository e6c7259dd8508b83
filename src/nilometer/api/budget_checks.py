"""How budgets stand, asked for by every call of a gateway, and read as seldom as is honest.

Of a project one question is under way at a time, and its answer is for all who asked meanwhile. It
is given again for `fresh` seconds, and no longer than until this process has stored usage of the
project: where one process does everything, no answer is older than what is stored.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from nilometer.api.workers import Workers
from nilometer.budgets.arrivals import Arrivals
from nilometer.budgets.check import Standing

_MOST_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class _Asked:
    """A question, with what had been stored when it began."""

    begun: float
    stored: int
    stored_of_all: int
    answer: asyncio.Task[Standing]


class BudgetChecks:
    """Used on one event loop."""

    def __init__(
        self,
        ask: Callable[[int], Standing],
        arrivals: Arrivals,
        workers: Workers,
        *,
        fresh: float,
    ) -> None:
        """`ask` blocks, in one of the workers' threads."""
        self._ask = ask
        self._arrivals = arrivals
        self._workers = workers
        self._fresh = fresh
        self._asked: dict[int, _Asked] = {}

    async def standing(self, project_id: int) -> Standing:
        """How the budgets of a project stand. Raises what `ask` does, and Unavailable."""
        asked = self._asked.get(project_id)
        if asked is None or not self._holds(project_id, asked):
            asked = self._begin(project_id)
        # Whoever goes away takes nobody else's answer along.
        return await asyncio.shield(asked.answer)

    def _holds(self, project_id: int, asked: _Asked) -> bool:
        if asked.stored != self._arrivals.of(project_id):
            return False
        if not asked.answer.done():
            return True
        now = asyncio.get_running_loop().time()
        if asked.answer.exception() is not None or now - asked.begun >= self._fresh:
            return False
        return not asked.answer.result().is_global or (
            asked.stored_of_all == self._arrivals.of_all()
        )

    def _begin(self, project_id: int) -> _Asked:
        if len(self._asked) >= _MOST_KEPT:
            self._asked = {key: each for key, each in self._asked.items() if not each.answer.done()}
        asked = _Asked(
            begun=asyncio.get_running_loop().time(),
            stored=self._arrivals.of(project_id),
            stored_of_all=self._arrivals.of_all(),
            answer=asyncio.create_task(self._workers.run(lambda: self._ask(project_id))),
        )
        asked.answer.add_done_callback(_seen)
        self._asked[project_id] = asked
        return asked


def _seen(answer: asyncio.Task[Standing]) -> None:
    """An error that nobody waits for any more is not reported as lost."""
    if not answer.cancelled():
        answer.exception()
