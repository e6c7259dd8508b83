"""How seldom budgets are read for checks, and that no answer is older than it may be."""

import asyncio
import threading
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from nilometer.api.budget_checks import BudgetChecks
from nilometer.api.workers import Workers
from nilometer.budgets.arrivals import Arrivals
from nilometer.budgets.budget import BudgetScope, ScopeKind
from nilometer.budgets.check import Standing
from nilometer.budgets.evaluation import evaluate
from nilometer.budgets.periods import Period, bounds, zone
from nilometer.budgets.spend import Spent
from nilometer.errors import Unavailable
from tests.budgets.making import budget
from tests.running import wait_until

NOW = datetime(2026, 11, 21, tzinfo=UTC)
MONTH = bounds(Period.MONTH, zone("UTC"), NOW)


class Asked:
    """Counts questions, and answers when it is let to."""

    def __init__(self, kind=ScopeKind.PROJECT):
        self.count, self.open, self.down = 0, threading.Event(), False
        self.open.set()
        spec = budget(scope=BudgetScope(kind), hard_stop=True)
        self.standing = Standing(NOW, [evaluate(spec, MONTH, Spent())])

    def __call__(self, project_id):
        self.count += 1
        assert self.open.wait(90)
        if self.down:
            raise Unavailable("away")
        return replace(self.standing)


@contextmanager
def checking(asked, fresh=60.0):
    arrivals, workers = Arrivals(), Workers("checks", threads=2, waiting=8)
    try:
        yield BudgetChecks(asked, arrivals, workers, fresh=fresh), arrivals
    finally:
        workers.close()


def store(arrivals, project_id):
    with arrivals.arriving([project_id]):
        pass


async def crowd(checks, project_id=1, size=50):
    return await asyncio.gather(*(checks.standing(project_id) for _ in range(size)))


def test_a_crowd_asks_once_and_again_only_when_the_answer_is_old():
    async def run(checks):
        await crowd(checks)
        await crowd(checks)

    for fresh, expected in ((60.0, 1), (0.0, 2)):
        asked = Asked()
        with checking(asked, fresh) as (checks, _):
            asyncio.run(run(checks))
        assert asked.count == expected


def test_who_asks_after_usage_was_stored_is_not_told_what_was_asked_before():
    async def run(asked, checks, arrivals):
        asked.open.clear()
        before = asyncio.create_task(checks.standing(1))
        await asyncio.to_thread(wait_until, lambda: asked.count == 1)
        store(arrivals, 1)
        after = asyncio.create_task(checks.standing(1))
        await asyncio.to_thread(wait_until, lambda: asked.count == 2)
        asked.open.set()
        assert await before is not await after

    asked = Asked()
    with checking(asked) as (checks, arrivals):
        asyncio.run(run(asked, checks, arrivals))


def test_while_usage_is_stored_each_answer_is_to_a_question_that_began_later():
    """It can be read from some moment on, and nobody knows which: no answer that was made is given
    again, and none that is being made; but all who ask meanwhile share the next."""

    async def run(asked, checks, arrivals):
        kept = await checks.standing(1)
        with arrivals.arriving([1]):
            asked.open.clear()
            first = asyncio.create_task(checks.standing(1))
            await asyncio.to_thread(wait_until, lambda: asked.count == 2)
            others = [asyncio.create_task(checks.standing(1)) for _ in range(50)]
            await asyncio.sleep(0)
            asked.open.set()
            assert kept is not await first
            answers = await asyncio.gather(*others)
            assert {id(each) for each in answers} == {id(answers[0])}
            assert answers[0] is not await first
            assert asked.count == 3
        now = await checks.standing(1)
        assert now is not answers[0]
        assert await checks.standing(1) is now

    asked = Asked()
    with checking(asked) as (checks, arrivals):
        asyncio.run(run(asked, checks, arrivals))
    assert asked.count == 4


def test_of_several_batches_under_way_each_counts():
    arrivals = Arrivals()
    before = arrivals.of(1), arrivals.of_all()
    with arrivals.arriving([1, 2]):
        with arrivals.arriving([2, 2]):
            assert arrivals.of(2) is None
        assert (arrivals.of(1), arrivals.of(2), arrivals.of_all()) == (None, None, None)
        assert arrivals.of(3) == 0
    with pytest.raises(Unavailable), arrivals.arriving([1]):
        raise Unavailable("away")  # and it may be there all the same
    assert (arrivals.of(1), arrivals.of(2), arrivals.of(3)) == (2, 2, 0)
    assert before != (arrivals.of(1), arrivals.of_all())


@pytest.mark.parametrize(("kind", "count"), [(ScopeKind.PROJECT, 1), (ScopeKind.GLOBAL, 2)])
def test_usage_of_another_project_matters_to_a_global_budget_only(kind, count):
    async def run(checks, arrivals):
        await checks.standing(1)
        store(arrivals, 2)
        await checks.standing(1)

    asked = Asked(kind)
    with checking(asked) as (checks, arrivals):
        asyncio.run(run(checks, arrivals))
    assert asked.count == count


def test_an_error_is_told_and_not_kept():
    async def run(asked, checks):
        asked.down = True
        with pytest.raises(Unavailable):
            await checks.standing(1)
        asked.down = False
        assert await checks.standing(1)

    asked = Asked()
    with checking(asked) as (checks, _):
        asyncio.run(run(asked, checks))
