"""Places shared out among projects: who waits for whom, and for how long."""

import asyncio
import threading
from contextlib import AsyncExitStack, suppress

import pytest

from nilometer.api.fairness import FairGate, FairWorkers, OwnShareTaken, Shares
from nilometer.errors import Unavailable

pytestmark = pytest.mark.anyio

SHARES = {"places": 2, "places_each": 1, "waiting": 4, "waiting_each": 3, "seconds": 30.0}


@pytest.fixture
def anyio_backend():
    return "asyncio"


def gate(**changed):
    return FairGate(Shares(**(SHARES | changed)))


async def turns():
    """Let every task go as far as it can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_project_waits_for_itself_and_not_for_another():
    fair = gate()
    await fair.enter(1)
    own = asyncio.create_task(fair.enter(1))
    await turns()
    assert not own.done()
    await asyncio.wait_for(fair.enter(2), 30)
    fair.leave(2)
    await turns()
    assert not own.done()
    fair.leave(1)
    await asyncio.wait_for(own, 30)


async def test_places_go_round_the_projects_that_wait():
    fair = gate(places=1, waiting=9, waiting_each=9)
    served = []

    async def ask(project_id):
        async with fair.passed(project_id):
            served.append(project_id)

    async with fair.passed(9):
        tasks = [asyncio.create_task(ask(project_id)) for project_id in (1, 1, 1, 2, 3, 2)]
        await turns()
        assert served == []
    await asyncio.wait_for(asyncio.gather(*tasks), 30)
    assert served == [1, 2, 3, 1, 2, 1]


async def test_a_full_queue_refuses_at_once_and_says_whose_it_is():
    fair = gate()
    for project_id in (1, 2):
        await fair.enter(project_id)
    tasks = [asyncio.create_task(fair.enter(1)) for _ in range(3)]
    await turns()
    with pytest.raises(OwnShareTaken) as own:
        await fair.enter(1)
    assert (own.value.code, own.value.retry_after) == ("throttled", 5)
    tasks.append(asyncio.create_task(fair.enter(2)))
    await turns()
    with pytest.raises(Unavailable) as full:
        await fair.enter(3)
    assert (full.value.code, full.value.retry_after) == ("busy", 1)
    for project_id in (1, 1, 1, 2):
        fair.leave(project_id)
        await turns()
    await asyncio.wait_for(asyncio.gather(*tasks), 30)


async def test_who_waits_too_long_is_told_and_leaves_no_trace():
    fair = gate(seconds=0.01)
    await fair.enter(1)
    with pytest.raises(OwnShareTaken):
        await fair.enter(1)
    await fair.enter(2)
    with pytest.raises(Unavailable) as full:
        await fair.enter(3)
    assert full.value.code == "busy"
    fair.leave(1)
    fair.leave(2)
    async with AsyncExitStack() as stack:
        for project_id in (1, 3):
            await stack.enter_async_context(fair.passed(project_id))


async def test_who_goes_away_as_its_turn_comes_hands_it_on():
    fair = gate()
    await fair.enter(1)
    first, second = (asyncio.create_task(fair.enter(1)) for _ in range(2))
    await turns()
    fair.leave(1)  # the first's turn, of which it does not know yet
    first.cancel()
    await asyncio.wait_for(second, 30)
    with suppress(asyncio.CancelledError):
        await first
    assert first.cancelled()


async def test_a_call_keeps_its_place_until_it_ends_and_is_not_made_for_nobody():
    workers = FairWorkers("test", Shares(**SHARES))
    release, made = threading.Event(), []
    try:
        running = asyncio.create_task(workers.run(1, release.wait))
        waiting = asyncio.create_task(workers.run(1, lambda: made.append("gone")))
        await turns()
        running.cancel()
        waiting.cancel()
        last = asyncio.create_task(workers.run(1, lambda: made.append("last")))
        await turns()
        assert not last.done()
        assert await workers.run(2, lambda: 7) == 7
        release.set()
        await asyncio.wait_for(last, 30)
        assert made == ["last"]
    finally:
        release.set()
        workers.close()
