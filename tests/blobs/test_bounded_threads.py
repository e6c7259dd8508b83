"""Room for jobs that wait for a disk: when it is given, refused, and given back."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from nilometer.blobs.bounded_threads import BoundedThreads
from nilometer.blobs.types import BlobsUnavailable


class Hung:
    """Jobs that hang until they are let go, and how many were begun."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.begun = threading.Semaphore(0)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        self.begun.release()
        assert self.let_go.wait(90)
        return "done"

    async def has_begun(self) -> None:
        await asyncio.to_thread(self.begun.acquire)


@pytest.fixture
def hung() -> Iterator[Hung]:
    found = Hung()
    yield found
    found.let_go.set()


async def given_up(threads: BoundedThreads, function: Hung, size: int) -> asyncio.Task[str]:
    """A job whose caller has stopped to wait for it."""
    task = asyncio.create_task(threads.run(function, size=size))
    await asyncio.wait([task], timeout=0)
    task.cancel()
    await asyncio.wait([task])
    return task


async def given_up_midway(threads: BoundedThreads, function: Hung, size: int) -> asyncio.Task[str]:
    """A job whose caller stops waiting for it once its thread is in it."""
    task = asyncio.create_task(threads.run(function, size=size))
    await function.has_begun()
    task.cancel()
    await asyncio.wait([task])
    return task


async def until_it_runs(threads: BoundedThreads, size: int) -> str:
    """The answer of a job that is tried until there is room for it."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await threads.run(lambda: "ran", size=size)
            except BlobsUnavailable:
                await asyncio.sleep(0)


@pytest.mark.parametrize("threads", [1, 8])
def test_what_was_given_up_holds_its_bytes_until_its_thread_ends(hung: Hung, threads: int) -> None:
    pool = BoundedThreads("t", threads=threads, max_jobs=100, max_bytes=10)

    async def wave() -> None:
        first = await given_up_midway(pool, hung, 6)
        second = await given_up(pool, hung, 4)
        assert first.cancelled()
        assert second.cancelled()
        for _ in range(50):
            with pytest.raises(BlobsUnavailable, match="too slow"):
                await pool.run(hung, size=1)
        hung.let_go.set()
        assert await until_it_runs(pool, 10) == "ran"

    asyncio.run(wave())
    pool.close()
    assert hung.calls <= threads


def test_the_number_of_jobs_is_bounded_too(hung: Hung) -> None:
    pool = BoundedThreads("t", threads=1, max_jobs=2, max_bytes=10)

    async def wave() -> None:
        for _ in range(2):
            await given_up(pool, hung, 0)
        with pytest.raises(BlobsUnavailable):
            await pool.run(hung)
        hung.let_go.set()
        assert await until_it_runs(pool, 0) == "ran"

    asyncio.run(wave())
    pool.close()


def test_a_job_that_was_given_up_before_it_began_is_never_called(hung: Hung) -> None:
    pool = BoundedThreads("t", threads=1, max_jobs=10, max_bytes=10)
    waiting = Hung()

    async def wave() -> None:
        running = asyncio.create_task(pool.run(hung))
        await hung.has_begun()
        await given_up(pool, waiting, 1)
        hung.let_go.set()
        assert await running == "done"

    asyncio.run(wave())
    pool.close()
    assert waiting.calls == 0


def test_one_job_larger_than_the_room_is_let_in_alone(hung: Hung) -> None:
    pool = BoundedThreads("t", threads=4, max_jobs=10, max_bytes=10)

    async def wave() -> None:
        assert await pool.run(lambda: "large", size=50) == "large"
        await given_up_midway(pool, hung, 1)
        with pytest.raises(BlobsUnavailable):
            await pool.run(lambda: "large", size=50)
        hung.let_go.set()

    asyncio.run(wave())
    pool.close()


def test_an_error_is_the_callers_and_gives_the_room_back() -> None:
    pool = BoundedThreads("t", threads=1, max_jobs=1, max_bytes=10)

    def fails() -> str:
        raise KeyError("x")

    async def twice() -> None:
        for _ in range(2):
            with pytest.raises(KeyError):
                await pool.run(fails, size=10)

    asyncio.run(twice())
    pool.close()


def test_a_job_that_ends_after_its_loop_has_closed_is_quiet(
    hung: Hung, caplog: pytest.LogCaptureFixture
) -> None:
    pool = BoundedThreads("t", threads=1, max_jobs=1, max_bytes=10)

    async def wave() -> None:
        task = asyncio.create_task(pool.run(hung))
        await hung.has_begun()
        task.cancel()

    asyncio.run(wave())
    hung.let_go.set()
    pool.close()
    assert caplog.records == []
