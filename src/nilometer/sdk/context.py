"""The context of calls: what they belong to, while a block or a function runs.

    with usage_context(job_id="nightly"):
        with batch_usage_context("b-7"):
            client.chat.completions.create(...)     # of job nightly, batch b-7

It lives in a `contextvars.ContextVar`: every thread and every asyncio task has its own, tasks
(`asyncio.create_task`, `gather`, `to_thread`) start with that of their maker. Threads and pools do
not: `threading.Thread` (before Python 3.14), `ThreadPoolExecutor.submit` and `map`,
`loop.run_in_executor` and `ProcessPoolExecutor` start with none. For those there are
`carry_context` and `ContextThreadPoolExecutor`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from types import TracebackType
from typing import Any, Generic, ParamSpec, TypeVar, cast, overload

from nilometer.sdk import context_generators
from nilometer.sdk.scopes import KEEP, NOTHING, Kept, Scopes

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class _Frame:
    """What holds, what held outside, and the block between the two."""

    scopes: Scopes
    outer: _Frame | None = None
    block: object = None


_ROOT = _Frame(NOTHING)
_CURRENT: ContextVar[_Frame] = ContextVar("nilometer_usage", default=_ROOT)

LIFTED = ("job_id", "batch_id", "user_id", "github_pr")
"""What `tracked` takes from the keyword arguments of the function it decorates."""


def current() -> Scopes:
    """What a call that is made here belongs to."""
    return _CURRENT.get().scopes


def set_scopes(given: Mapping[str, Any]) -> None:
    """Change the context from here to the end of the block, else of the thread or task. A block of
    its own is better."""
    frame = _CURRENT.get()
    _CURRENT.set(_Frame(frame.scopes.changed(given), frame.outer, frame.block))


class _Block:
    """A context for a block: `with`, `async with`, or `@` on a function. May be entered many times,
    by many threads and tasks at once."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        NOTHING.changed(given)  # a mistake shows where it is made
        self._given = given

    def __enter__(self) -> Scopes:
        outer = _CURRENT.get()
        scopes = outer.scopes.changed(self._given)
        _CURRENT.set(_Frame(scopes, outer, self))
        return scopes

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        frame: _Frame | None = _CURRENT.get()
        while frame is not None and frame.block is not self:
            frame = frame.outer  # a block inside was left open, such as a generator's
        if frame is not None and frame.outer is not None:
            _CURRENT.set(frame.outer)

    async def __aenter__(self) -> Scopes:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, trace)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        return _decorated(function, self._given)


def usage_context(
    *,
    job_id: str | Kept | None = KEEP,
    batch_id: str | Kept | None = KEEP,
    user_id: str | Kept | None = KEEP,
    environment: str | Kept | None = KEEP,
    developer: str | Kept | None = KEEP,
    repository: str | Kept | None = KEEP,
    tags: Any = KEEP,
    metadata: Mapping[str, Any] | Kept | None = KEEP,
    github_pr: int | Kept | None = KEEP,
) -> _Block:
    """Everything called inside belongs to these. `tags` are a list of texts or a mapping of names
    to values; they and the metadata add to those outside, None clears."""
    return _Block(
        {
            "job_id": job_id,
            "batch_id": batch_id,
            "user_id": user_id,
            "environment": environment,
            "developer": developer,
            "repository": repository,
            "tags": tags,
            "metadata": metadata,
            "github_pr": github_pr,
        }
    )


def batch_usage_context(batch_id: str, **scopes: Any) -> _Block:
    """`usage_context` of a batch. That a call is paid at a batch's price follows from the answer
    (a batch's result, a service tier), never from this."""
    return _Block({"batch_id": batch_id, **scopes})


@overload
def tracked(function: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def tracked(**scopes: Any) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def tracked(function: Callable[..., Any] | None = None, /, **scopes: Any) -> Any:
    """`usage_context` for a function, a coroutine function or a generator of either kind, bare or
    with scopes. The keyword arguments `job_id`, `batch_id`, `user_id` and `github_pr` of a call of
    it are scopes too, and reach the function."""
    if function is not None:
        return _decorated(function, {})
    return _Block(scopes)


def _decorated(function: Callable[P, R], scopes: Mapping[str, Any]) -> Callable[P, R]:
    plain = cast("Callable[..., Any]", function)

    def block(called: Mapping[str, Any]) -> _Block:
        lifted = {name: called[name] for name in LIFTED if called.get(name) is not None}
        return _Block({**scopes, **lifted})

    def around(*args: Any, **called: Any) -> Any:
        with block(called):
            return plain(*args, **called)

    async def around_coroutine(*args: Any, **called: Any) -> Any:
        with block(called):
            return await plain(*args, **called)

    def around_steps(*args: Any, **called: Any) -> Any:
        return (yield from context_generators.drive(plain(*args, **called), block(called)))

    def around_async_steps(*args: Any, **called: Any) -> Any:
        return context_generators.drive_async(plain(*args, **called), block(called))

    wrapper: Callable[..., Any] = around
    if inspect.isasyncgenfunction(plain):
        wrapper = around_async_steps
    elif inspect.isgeneratorfunction(plain):
        wrapper = around_steps
    elif inspect.iscoroutinefunction(plain):
        wrapper = around_coroutine
    return cast("Callable[P, R]", wraps(plain)(wrapper))


class Carried(Generic[P, R]):
    """A function that runs in the context in which this was made, in whatever thread. It may run in
    several at once, and be sent to another process if the function can be."""

    def __init__(self, function: Callable[P, R], scopes: Scopes) -> None:
        self.function = function
        self.scopes = scopes

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function."""
        token = _CURRENT.set(_Frame(self.scopes))
        try:
            return self.function(*args, **kwargs)
        finally:
            _CURRENT.reset(token)


def carry_context(function: Callable[P, R]) -> Carried[P, R]:
    """The function, to be given to a thread or a pool: it runs in the context of here and now.

    Needed for `threading.Thread`, `ThreadPoolExecutor`, `ProcessPoolExecutor` and
    `loop.run_in_executor`; not for tasks and `asyncio.to_thread`.
    """
    return Carried(function, current())


class ContextThreadPoolExecutor(ThreadPoolExecutor):
    """A thread pool whose work runs in the context of the one that submitted it."""

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """As the base class does."""
        return super().submit(carry_context(fn), *args, **kwargs)
