"""Threads for a disk that may hang: what waits for it, or is stuck in it, is bounded.

A caller that gives up frees nothing: its thread is still in the system call, and the bytes that it
writes are still in memory. So a job's room is given back when the job itself has ended, and a job
that finds none is refused at once.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from nilometer.blobs.types import BlobsUnavailable

T = TypeVar("T")


class BoundedThreads:
    """A pool of threads with at most `max_jobs` jobs and `max_bytes` held by them, begun or not.

    A single job larger than `max_bytes` is let in when it holds the only bytes, or it never could
    be.
    """

    def __init__(self, name: str, *, threads: int, max_jobs: int, max_bytes: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._max_jobs = max_jobs
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._jobs = 0
        self._bytes = 0

    async def run(self, function: Callable[[], T], *, size: int = 0) -> T:
        """Call the function, which holds so many bytes, in a thread.

        Raises BlobsUnavailable at once when there is no room. When the caller is cancelled, a
        function that has not begun is never called.
        """
        self._take(size)
        answer: Future[T] = Future()
        try:
            self._pool.submit(self._work, answer, function, size)
        except BaseException:
            self._give_back(size)
            raise
        # Not the pool's own future: cancelling that one leaves the function in the pool's queue
        # and tells nobody when it goes.
        return await asyncio.wrap_future(answer)

    def close(self) -> None:
        """Wait for the jobs that have begun. Blocks."""
        self._pool.shutdown(wait=True)

    def _take(self, size: int) -> None:
        with self._lock:
            crowded = self._bytes > 0 and self._bytes + size > self._max_bytes
            if self._jobs >= self._max_jobs or crowded:
                raise BlobsUnavailable(
                    "the blob storage is too slow: too much waits for it already"
                )
            self._jobs += 1
            self._bytes += size

    def _give_back(self, size: int) -> None:
        with self._lock:
            self._jobs -= 1
            self._bytes -= size

    def _work(self, answer: Future[T], function: Callable[[], T], size: int) -> None:
        if not answer.set_running_or_notify_cancel():
            self._give_back(size)
            return
        # The room goes back first: whoever hears the answer may want it.
        try:
            result = function()
        except BaseException as error:  # noqa: BLE001  (whatever it is, it is the caller's)
            self._give_back(size)
            answer.set_exception(error)
            del answer  # or the error's traceback and this frame would hold each other
        else:
            self._give_back(size)
            answer.set_result(result)
