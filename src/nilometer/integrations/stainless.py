"""The seam that OpenAI's and Anthropic's libraries share, as one generator (Stainless) writes both.

Every method of every resource, parsed, raw and streamed, sends its request by the client's
`request`, makes its answer of the response by `_process_response`, and reads each JSON document or
event of it by `_process_response_data`. These three are taken on the instance, so that its class,
its resources and everything they return stay as they are; `copy` and `with_options` carry them on.
No argument of the caller's is changed.
"""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, cast

import anyio

from nilometer.integrations.body import listen, read_body
from nilometer.integrations.call import Call, Endpoint
from nilometer.sdk.tracker import Tracker

C = TypeVar("C")

_LOG = logging.getLogger(__name__)
_STATE = "_nilometer"
_CALL = "nilometer.call"
_SEAM = ("request", "_process_response", "_process_response_data", "copy")
_CURRENT: ContextVar[Call | None] = ContextVar("nilometer_call", default=None)


@dataclass(slots=True)
class Seam:
    """What an adapter adds to a client. `endpoint` finds what a request (its method and path) asks
    for, with the id its path names, None for what is not tracked; `posted` has it at once for the
    paths that are posted to most. `alter` gives other options for it where the caller opted in to
    that. `renew` makes the seam of a clone, which may speak to another server. `paths` are those
    that cost something when they are posted to."""

    tracker: Tracker
    service: str
    endpoint: Callable[[str, str], tuple[Endpoint, str] | None]
    alter: Callable[[Any], Any] | None = None
    renew: Callable[[Any], Seam] | None = None
    memory: dict[str, str] = field(default_factory=dict[str, str])
    paths: frozenset[str] = frozenset()
    posted: Mapping[str, Endpoint] = field(default_factory=dict[str, Endpoint])

    def admit(self, options: Any) -> None:
        """Raises BudgetExceeded where a hard stop keeps this request from being made."""
        if not self.tracker.guarded:
            return
        try:
            path = options.url.partition("?")[0] if options.method.lower() == "post" else ""
            models = _models(options) if path in self.paths else None
        except Exception:  # noqa: BLE001  (it never harms its host)
            _LOG.debug("a request could not be looked at", exc_info=True)
            return
        if models is not None:
            self.tracker.admit(self.service, *models)

    def call(self, options: Any) -> Call | None:
        """The call that a request begins, None where it is not tracked."""
        try:
            method, url, subject = options.method, options.url, ""
            endpoint = self.posted.get(url) if method == "post" else None
            if endpoint is None:
                found = self.endpoint(method, url)
                if found is None:
                    return None
                endpoint, subject = found
            body = options.json_data  # nearly always a dict, with a model
            model = cast("dict[str, Any]", body).get("model") if type(body) is dict else None
            if type(model) is not str:
                model = _model(options)
            return Call(self.tracker, self.service, endpoint, model, self.memory, subject)
        except Exception:  # noqa: BLE001  (it never harms its host)
            _LOG.debug("a request could not be looked at", exc_info=True)
            return None


def attach(client: C, seam: Seam) -> C:
    """Track the client's calls. Raises TypeError for a client without the seam: one of a version
    that nobody has seen yet, or of no client at all."""
    members = vars(client)
    if isinstance(members.get(_STATE), Seam):
        members[_STATE] = replace(seam, memory=members[_STATE].memory)
        return client
    if missing := [name for name in _SEAM if not callable(getattr(client, name, None))]:
        kind = f"{type(client).__module__}.{type(client).__qualname__}"
        raise TypeError(f"{kind} has no {missing[0]}: it is no client that can be tracked")
    members[_STATE] = seam
    anything = cast("Any", client)
    if inspect.iscoroutinefunction(anything.request):
        members["request"] = _async_request(members, anything.request)
        members["_process_response"] = _async_process(anything._process_response)  # noqa: SLF001
    else:
        members["request"] = _request(members, anything.request)
        members["_process_response"] = _process(anything._process_response)  # noqa: SLF001
    members["_process_response_data"] = _hear(anything._process_response_data)  # noqa: SLF001
    members["copy"] = _copy(members, anything.copy)
    members["with_options"] = members["copy"]
    return client


def _request(members: dict[str, Any], original: Callable[..., Any]) -> Callable[..., Any]:
    def request(cast_to: Any, options: Any, *more: Any, **how: Any) -> Any:
        seam: Seam = members[_STATE]
        if seam.tracker.guarded:
            seam.admit(options)
        call = seam.call(options)
        if call is None:
            return original(cast_to, options, *more, **how)
        if seam.alter is not None:
            options = seam.alter(options)
        token = _CURRENT.set(call)
        try:
            return original(cast_to, options, *more, **how)
        except BaseException as error:
            call.fail(error)
            call.end()
            raise
        finally:
            _CURRENT.reset(token)

    return request


def _async_request(
    members: dict[str, Any], original: Callable[..., Awaitable[Any]]
) -> Callable[..., Awaitable[Any]]:
    async def request(cast_to: Any, options: Any, *more: Any, **how: Any) -> Any:
        seam: Seam = members[_STATE]
        if seam.tracker.guarded:
            seam.admit(options)
        call = seam.call(options)
        if call is None:
            return await original(cast_to, options, *more, **how)
        if seam.alter is not None:
            options = seam.alter(options)
        token = _CURRENT.set(call)
        try:
            return await original(cast_to, options, *more, **how)
        except BaseException as error:
            call.fail(error)
            call.end()
            raise
        finally:
            _CURRENT.reset(token)

    return request


def _process(original: Callable[..., Any]) -> Callable[..., Any]:
    def process(**given: Any) -> Any:
        call = _answer(given)
        result = original(**given)
        if call is not None:
            for pause in _finish(call, given["response"]):
                time.sleep(pause)
        return result

    return process


def _async_process(original: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    async def process(**given: Any) -> Any:
        call = _answer(given)
        result = await original(**given)
        if call is not None:
            for pause in _finish(call, given["response"]):
                await anyio.sleep(pause)
        return result

    return process


def _hear(original: Callable[..., Any]) -> Callable[..., Any]:
    def hear(**given: Any) -> Any:
        extensions = getattr(given.get("response"), "extensions", None)
        call = extensions.get(_CALL) if extensions else None
        if call is not None and not call.ended:
            call.hear(given.get("data"))
            if call.late:
                call.end()
        return original(**given)

    return hear


def _copy(members: dict[str, Any], original: Callable[..., Any]) -> Callable[..., Any]:
    def copy(*args: Any, **changes: Any) -> Any:
        clone = original(*args, **changes)
        seam: Seam = members[_STATE]
        renewed = seam if seam.renew is None else seam.renew(clone)
        return attach(clone, replace(renewed, memory=seam.memory))

    return copy


def _answer(given: Mapping[str, Any]) -> Call | None:
    """The call that a response answers, listening to it from here on."""
    call, response = _CURRENT.get(), given["response"]
    if call is None or not 200 <= response.status_code <= 299:
        return None
    try:
        if call.answered:  # a middleware of the caller's asked twice: both are paid for
            call = call.again()
        call.answered = True
        call.stream = bool(given.get("stream")) and not call.endpoint.lines
        call.retries = given.get("retries_taken") or 0
        call.http_status = response.status_code
        call.headers = response.headers
        response.extensions[_CALL] = call
        if not response.is_closed:
            listen(response, call)
    except Exception:  # noqa: BLE001  (it never harms its host)
        _LOG.debug("an answer could not be looked at", exc_info=True)
        return None
    return call


def _finish(call: Call, response: Any) -> Iterable[float]:
    """End a call whose whole answer is there (a mock transport's stream is, too); one that is still
    coming ends with it. Gives seconds to wait, where the answer is a file of results."""
    if not response.is_closed or call.ended:
        return ()
    heard = call.heard and call.endpoint.lines is None
    pauses = () if heard else read_body(call, response)
    call.end()
    return pauses


def _model(options: Any) -> str | None:
    body = options.json_data
    model = cast("Mapping[str, Any]", body).get("model") if isinstance(body, Mapping) else None
    return model if isinstance(model, str) else None


def _models(options: Any) -> tuple[str, ...]:
    """What a request asks for, itself or in its `requests` (a batch's)."""
    if (model := _model(options)) is not None:
        return (model,)
    body = options.json_data
    asked = cast("Mapping[str, Any]", body).get("requests") if isinstance(body, Mapping) else None
    if not isinstance(asked, (list, tuple)):
        return ()
    each = (request["params"].get("model") for request in cast("list[Any]", asked))
    return tuple(dict.fromkeys(model for model in each if isinstance(model, str)))
