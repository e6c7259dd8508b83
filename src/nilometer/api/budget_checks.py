"""How budgets stand, asked for by every call of a gateway, and read as seldom as is honest.

Of a project one question is under way at a time, and its answer is for all who asked meanwhile. It
is given again for `fresh` seconds, and no longer than until this process stores usage of the
project: where one process does everything, no answer is older than what is stored. While usage is
being stored, nobody knows since when it can be read: who asks then gets the answer to a question
that begins later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from nilometer.api.workers import Workers
from nilometer.budgets.arrivals import Arrivals
from nilometer.budgets.check import Standing

_MOST_KEPT = 10_000


@dataclass(slots=True, eq=False)
class _Asked:
    """A question: when it began (None until then), and what had been stored by then."""

    answer: asyncio.Task[Standing] = field(init=False)
    begun: float | None = None
    stored: int | None = None
    stored_of_all: int | None = None


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
            asked = self._begin(project_id, asked)
        # Whoever goes away takes nobody else's answer along.
        return await asyncio.shield(asked.answer)

    def _holds(self, project_id: int, asked: _Asked) -> bool:
        """Whether its answer is of all that could be read when this is called."""
        if asked.begun is None:
            return True
        if asked.stored is None or asked.stored != self._arrivals.of(project_id):
            return False
        if not asked.answer.done():
            return True
        now = asyncio.get_running_loop().time()
        if asked.answer.exception() is not None or now - asked.begun >= self._fresh:
            return False
        return not asked.answer.result().is_global or (
            asked.stored_of_all is not None and asked.stored_of_all == self._arrivals.of_all()
        )

    def _begin(self, project_id: int, before: _Asked | None) -> _Asked:
        if len(self._asked) >= _MOST_KEPT:
            self._asked = {key: each for key, each in self._asked.items() if not each.answer.done()}
        asked = _Asked()
        asked.answer = asyncio.create_task(self._answer(project_id, asked, before))
        asked.answer.add_done_callback(_seen)
        self._asked[project_id] = asked
        return asked

    async def _answer(self, project_id: int, asked: _Asked, before: _Asked | None) -> Standing:
        if before is not None and self._arrivals.of(project_id) is None:
            # One begins after the other, or each that asks while usage is stored had its own.
            await asyncio.wait([before.answer])
        asked.begun = asyncio.get_running_loop().time()
        asked.stored = self._arrivals.of(project_id)
        asked.stored_of_all = self._arrivals.of_all()
        return await self._workers.run(lambda: self._ask(project_id))


def _seen(answer: asyncio.Task[Standing]) -> None:
    """An error that nobody waits for any more is not reported as lost."""
    if not answer.cancelled():
        answer.exception()
