"""Waiting with a limit."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from nilometer.capture.patience import Patience


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


def run(scenario: Callable[[Patience], Awaitable[None]]) -> None:
    patience = Patience()

    async def main() -> None:
        await scenario(patience)
        assert not patience._waiting
        assert not patience._over

    asyncio.run(main())


def soon(seconds: float = 0.05) -> float:
    return asyncio.get_running_loop().time() + seconds


def test_a_wait_that_takes_too_long_ends_and_the_task_goes_on():
    async def scenario(patience: Patience) -> None:
        for _ in range(2):
            with pytest.raises(TimeoutError):
                await patience.wait(forever, soon())
        await asyncio.sleep(0)
        assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]

    run(scenario)


def test_a_result_in_time_is_handed_on():
    async def scenario(patience: Patience) -> None:
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_result, "here")
        assert await patience.wait(lambda: future, soon(5)) == "here"

    run(scenario)


def test_an_error_is_handed_on():
    async def broken() -> None:
        raise KeyError("x")

    async def scenario(patience: Patience) -> None:
        with pytest.raises(KeyError):
            await patience.wait(broken, soon(5))

    run(scenario)


def test_a_task_that_somebody_else_cancels_is_cancelled():
    async def scenario(patience: Patience) -> None:
        waiting = asyncio.ensure_future(patience.wait(forever, soon(60)))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    run(scenario)


def test_a_task_that_is_cancelled_as_its_time_ends_is_cancelled():
    async def scenario(patience: Patience) -> None:
        waiting = asyncio.ensure_future(patience.wait(forever, soon(-1)))
        await asyncio.sleep(0)
        patience._look()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    run(scenario)


def test_many_waits_end_each_at_its_own_time():
    async def scenario(patience: Patience) -> None:
        ended: list[int] = []

        async def one(number: int, seconds: float) -> None:
            until = soon(seconds)
            with pytest.raises(TimeoutError):
                await patience.wait(forever, until)
            assert asyncio.get_running_loop().time() >= until
            ended.append(number)

        # Waits that are over at the same look end in the order in which they began, so only the
        # one that no halt of the machine lets end may have begun before those that end earlier.
        later = asyncio.ensure_future(one(3, 600))
        await asyncio.gather(one(1, 0.15), one(2, 0.3))
        assert ended == [1, 2]
        assert not later.done()
        later.cancel()
        await asyncio.gather(later, return_exceptions=True)

    run(scenario)
