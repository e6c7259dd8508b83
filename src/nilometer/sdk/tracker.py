"""The tracker: takes note of calls, in microseconds, and never harms the one who makes them."""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, ParamSpec, Protocol, TypeVar, Unpack, cast

from nilometer.errors import BudgetExceeded
from nilometer.sdk import context, loose_values
from nilometer.sdk.budget_guard import BudgetGuard
from nilometer.sdk.delivery.delivery import Delivery
from nilometer.sdk.observation import Observation, Observed, Seen
from nilometer.sdk.scopes import Scopes

P = ParamSpec("P")
R = TypeVar("R")

_LOG = logging.getLogger(__name__)


class Tracker(Protocol):
    """What an adapter of a provider's library needs of a tracker."""

    @property
    def room(self) -> int:
        """How many calls can be on their way to the writer, at most."""
        ...

    def snapshot(self) -> Scopes:
        """The context of here and now, for `record(context=…)` when a stream ends elsewhere."""
        ...

    @property
    def guarded(self) -> bool:
        """Whether `admit` has anything to say."""
        ...

    def admit(self, service: str, *models: str | None) -> None:
        """A call is about to be made; see `AIUsageTracker.admit`."""
        ...

    def record(self, **seen: Unpack[Seen]) -> None:
        """Take note of a call; see `AIUsageTracker.record`."""
        ...

    def take(self, observed: Observed) -> None:
        """Take note of a call that can be told of later; see `AIUsageTracker.take`."""
        ...


class AIUsageTracker:
    """Takes note of calls and gives them to the delivery. Safe between threads and tasks."""

    def __init__(self, delivery: Delivery | None, guard: BudgetGuard | None = None) -> None:
        """`guard` is None where no hard stop is on."""
        self._delivery = delivery
        self._guard = guard
        self.guarded = guard is not None
        """Whether a hard stop is on."""
        self.room = 0 if delivery is None else delivery.limits.queue_size
        """How many calls can be on their way to the writer, at most."""

    snapshot = staticmethod(context.current)
    """The context of here and now."""

    def admit(self, service: str, *models: str | None) -> None:
        """Ask whether a call may be made here and now: to be asked before it. `models` are the
        names of what it asks for. Raises BudgetExceeded where a hard stop is on and holds, and
        never anything else."""
        guard = self._guard
        if guard is None:
            return
        try:
            guard.admit(service, models, context.current())
        except BudgetExceeded:
            raise
        except Exception:  # noqa: BLE001  (it never harms its host)
            _LOG.debug("budgets could not be looked at", exc_info=True)

    def record(self, **seen: Unpack[Seen]) -> None:
        """Take note of a call, as `Seen` describes it. Never raises and never waits: what cannot be
        counted is dropped, and that is counted."""
        delivery = self._delivery
        if delivery is None:
            return
        try:
            error = seen.get("error")
            if isinstance(error, BaseException):
                if not seen.get("error_type"):
                    seen["error_type"] = type(error).__name__
                seen["error"] = loose_values.error_text(error)  # and not its frames
            scopes = seen.pop("context", None) or context.current()
            observation = Observation(seen, scopes, time.time())
        except Exception as fault:  # noqa: BLE001  (it never harms its host)
            delivery.fault(fault)
            return
        self.take(observation)

    def take(self, observed: Observed) -> None:
        """Take note of a call that ended and can be told of later, in the least time. Never raises
        and never waits."""
        if self._delivery is None:
            return
        self._delivery.submit(observed)
        if self._guard is not None:
            self._count(self._guard, observed)

    def _count(self, guard: BudgetGuard, observed: Observed) -> None:
        try:
            guard.count(observed)
        except Exception:  # noqa: BLE001  (what is no metric is told of by the delivery)
            _LOG.debug("a call could not be added to its budgets", exc_info=True)

    @contextmanager
    def measure(self, **seen: Unpack[Seen]) -> Generator[Call]:
        """Record what a block does as one call, with its latency and its error, if it ends in one.

        with tracker.measure(service="acme", model="acme-1", operation="completion") as call:
            answer = client.complete(…)
            call.note(input_tokens=answer.tokens_in, output_tokens=answer.tokens_out)

        Raises BudgetExceeded before the block where a hard stop holds.
        """
        self.admit(seen.get("service", ""), seen.get("model"), seen.get("requested_model"))
        call = Call({**seen})
        call.seen.setdefault("context", self.snapshot())
        begun = time.perf_counter()
        try:
            yield call
        except BaseException as error:
            call.seen.setdefault("error", error)
            raise
        finally:
            call.seen.setdefault("latency", time.perf_counter() - begun)
            self.record(**cast("Seen", call.seen))

    def measured(
        self, read: Callable[[Any], Mapping[str, Any]] | None = None, **seen: Unpack[Seen]
    ) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """`measure` for a function or a coroutine function: each call of it is recorded. `read`
        makes of its result what else `record` should know."""

        def block() -> AbstractContextManager[Call]:
            return self.measure(**seen)

        def decorate(function: Callable[P, R]) -> Callable[P, R]:
            plain = cast("Callable[..., Any]", function)

            def around(*args: Any, **kwargs: Any) -> Any:
                with block() as call:
                    result = plain(*args, **kwargs)
                    call.read(read, result)
                    return result

            async def around_coroutine(*args: Any, **kwargs: Any) -> Any:
                with block() as call:
                    result = await plain(*args, **kwargs)
                    call.read(read, result)
                    return result

            wrapper = around_coroutine if inspect.iscoroutinefunction(plain) else around
            return cast("Callable[P, R]", wraps(plain)(wrapper))

        return decorate


@dataclass(slots=True)
class Call:
    """A call that is being measured."""

    seen: dict[str, Any] = field(default_factory=dict[str, Any])

    def note(self, **seen: Any) -> None:
        """Add what is known of it: arguments of `AIUsageTracker.record`."""
        self.seen.update(seen)

    def read(self, reader: Callable[[Any], Mapping[str, Any]] | None, result: Any) -> None:
        """Add what a result says, as far as it can be read."""
        if reader is None:
            return
        try:
            self.seen.update(reader(result))
        except Exception as fault:  # noqa: BLE001  (the call succeeded, whatever its reader does)
            self.seen.setdefault("metadata", {})
            self.seen["metadata"] = {**self.seen["metadata"], "usage_unread": type(fault).__name__}
