"""The tracker: takes note of calls, in microseconds, and never harms the one who makes them."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import wraps
from typing import Any, ParamSpec, Protocol, TypeVar, cast

from nilometer.sdk import context, loose_values
from nilometer.sdk.delivery.delivery import Delivery
from nilometer.sdk.observation import Observation
from nilometer.sdk.scopes import Scopes

P = ParamSpec("P")
R = TypeVar("R")


class Tracker(Protocol):
    """What an adapter of a provider's library needs of a tracker."""

    def snapshot(self) -> Scopes:
        """The context of here and now, for `record(context=…)` when a stream ends elsewhere."""
        ...

    def record(self, *, service: str, model: str, operation: str, **seen: Any) -> None:
        """Take note of a call; see `AIUsageTracker.record`."""
        ...


class AIUsageTracker:
    """Takes note of calls and gives them to the delivery. Safe between threads and tasks."""

    def __init__(self, delivery: Delivery | None) -> None:
        self._delivery = delivery

    def snapshot(self) -> Scopes:
        """The context of here and now."""
        return context.current()

    def record(
        self,
        *,
        service: str,
        model: str,
        operation: str,
        usage: Any = None,
        convention: str | None = None,
        started_at: datetime | None = None,
        latency: float | None = None,
        time_to_first_token: float | None = None,
        error: BaseException | str | None = None,
        error_type: str | None = None,
        http_status: int | None = None,
        retries: int = 0,
        provider_request_id: str | None = None,
        response_id: str | None = None,
        requested_model: str | None = None,
        service_tier: str | None = None,
        region: str | None = None,
        stream: bool = False,
        estimated: bool = False,
        api_calls: int = 1,
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        total_tokens: int | None = None,
        cost_usd: Decimal | None = None,
        price_source: str | None = None,
        reported_cost_usd: Decimal | None = None,
        request_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        context: Scopes | None = None,
        **scopes: Any,
    ) -> None:
        """Take note of a call. Never raises and never waits: what cannot be counted is dropped, and
        that is counted.

        `usage` is the provider's own object (a mapping, or what its library made of it), read later
        by its `convention` where that is known, or a `domain.usage.Usage`; `input_tokens` and
        `output_tokens` are for calls without one. `started_at` is aware; without it the call ended
        now and took `latency` seconds. `error` says that it failed. `cost_usd` is for calls whose
        cost the caller knows, by `price_source`. `context` is an earlier `snapshot`; `scopes`
        (job_id, user_id, tags …) come before it.
        """
        delivery = self._delivery
        if delivery is None:
            return
        try:
            if isinstance(error, BaseException):
                error_type = error_type or type(error).__name__
                error = loose_values.error_text(error)  # and not its frames
            seen = Observation(
                service=service,
                model=model,
                operation=operation,
                usage=usage,
                convention=convention,
                started_at=started_at,
                ended_at=time.time(),
                latency=latency,
                time_to_first_token=time_to_first_token,
                error=error,
                error_type=error_type,
                http_status=http_status,
                retries=retries,
                provider_request_id=provider_request_id,
                response_id=response_id,
                requested_model=requested_model,
                service_tier=service_tier,
                region=region,
                stream=stream,
                estimated=estimated,
                api_calls=api_calls,
                input_tokens=input_tokens,
                output_tokens=output_tokens,
                total_tokens=total_tokens,
                cost_usd=cost_usd,
                price_source=price_source,
                reported_cost_usd=reported_cost_usd,
                request_id=request_id,
                metadata=metadata,
                scopes=_current() if context is None else context,
                own=scopes,
            )
        except Exception as fault:  # noqa: BLE001  (it never harms its host)
            delivery.fault(fault)
        else:
            delivery.submit(seen)

    @contextmanager
    def measure(self, *, service: str, model: str, operation: str, **seen: Any) -> Generator[Call]:
        """Record what a block does as one call, with its latency and its error, if it ends in one.

        with tracker.measure(service="acme", model="acme-1", operation="completion") as call:
            answer = client.complete(…)
            call.note(input_tokens=answer.tokens_in, output_tokens=answer.tokens_out)
        """
        call = Call({"service": service, "model": model, "operation": operation, **seen})
        call.seen.setdefault("context", self.snapshot())
        begun = time.perf_counter()
        try:
            yield call
        except BaseException as error:
            call.seen.setdefault("error", error)
            raise
        finally:
            call.seen.setdefault("latency", time.perf_counter() - begun)
            self._recorded(call.seen)

    def measured(
        self,
        *,
        service: str,
        model: str,
        operation: str,
        usage: Callable[[Any], Mapping[str, Any]] | None = None,
        **seen: Any,
    ) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """`measure` for a function or a coroutine function: each call of it is recorded. `usage`
        makes of its result what else `record` should know."""

        def block() -> AbstractContextManager[Call]:
            return self.measure(service=service, model=model, operation=operation, **seen)

        def decorate(function: Callable[P, R]) -> Callable[P, R]:
            plain = cast("Callable[..., Any]", function)

            def around(*args: Any, **kwargs: Any) -> Any:
                with block() as call:
                    result = plain(*args, **kwargs)
                    call.read(usage, result)
                    return result

            async def around_coroutine(*args: Any, **kwargs: Any) -> Any:
                with block() as call:
                    result = await plain(*args, **kwargs)
                    call.read(usage, result)
                    return result

            wrapper = around_coroutine if inspect.iscoroutinefunction(plain) else around
            return cast("Callable[P, R]", wraps(plain)(wrapper))

        return decorate

    def _recorded(self, seen: dict[str, Any]) -> None:
        try:
            self.record(**seen)
        except TypeError as fault:  # a name that `record` does not have twice, or at all
            if self._delivery is not None:
                self._delivery.fault(fault)


@dataclass(slots=True)
class Call:
    """A call that is being measured."""

    seen: dict[str, Any] = field(default_factory=dict[str, Any])

    def note(self, **seen: Any) -> None:
        """Add what is known of it: arguments of `AIUsageTracker.record`."""
        self.seen.update(seen)

    def read(self, usage: Callable[[Any], Mapping[str, Any]] | None, result: Any) -> None:
        """Add what a result says, as far as it can be read."""
        if usage is None:
            return
        try:
            self.seen.update(usage(result))
        except Exception as fault:  # noqa: BLE001  (the call succeeded, whatever its reader does)
            self.seen.setdefault("metadata", {})
            self.seen["metadata"] = {**self.seen["metadata"], "usage_unread": type(fault).__name__}


_current = context.current
