"""Errors as HTTP answers: translated here, once, to `{"type", "code", "detail", "attr"}`.

Types and codes are those of the capture contract, section 6, so that its clients understand them.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nilometer.access.types import TooManyGuesses, UnknownKey
from nilometer.api import methods
from nilometer.api.fairness import OwnShareTaken
from nilometer.blobs.types import BlobExpired
from nilometer.domain import members
from nilometer.errors import InvalidInput, NilometerError, NotFound, Unavailable
from nilometer.incidents.accept import ProjectPaused
from nilometer.incidents.approvals import SeparationOfDuties
from nilometer.incidents.backlog import BacklogFull
from nilometer.incidents.lifecycle import Conflict, IllegalTransition
from nilometer.pipeline.rewriting.jobs import InProgress
from nilometer.workflows.dead_letters import AlreadyDecided

logger = logging.getLogger(__name__)

_JSON = "application/json"
_HTTP_CODES = {404: "not_found", 405: "method_not_allowed"}
_SERVER_ERROR = ("server_error", "error", "The server could not do this; its log says more.")


class NotAuthenticated(NilometerError):
    """No valid credential came with the request."""

    code = "authentication_failed"


class PermissionDenied(NilometerError):
    """The key is known, and may not do this."""

    code = "permission_denied"


class RequestTimeout(NilometerError):
    """The body took too long to arrive."""

    code = "request_timeout"


class UnsupportedEncoding(NilometerError):
    """The body is compressed, and nobody here reads that."""

    code = "unsupported_content_encoding"


# The first class that fits decides: status and type.
_STATUSES: tuple[tuple[type[NilometerError], int, str], ...] = (
    (NotAuthenticated, 401, "authentication_error"),
    (UnknownKey, 401, "authentication_error"),
    (PermissionDenied, 403, "authentication_error"),
    (SeparationOfDuties, 403, "authentication_error"),
    (RequestTimeout, 408, "invalid_request"),
    (Conflict, 409, "invalid_request"),
    (IllegalTransition, 409, "invalid_request"),
    (AlreadyDecided, 409, "invalid_request"),
    (InProgress, 409, "invalid_request"),
    (BlobExpired, 410, "invalid_request"),
    (UnsupportedEncoding, 415, "invalid_request"),
    (NotFound, 404, "invalid_request"),
    (InvalidInput, 400, "validation_error"),
    (TooManyGuesses, 429, "throttled_error"),
    (OwnShareTaken, 429, "throttled_error"),
    (BacklogFull, 429, "throttled_error"),
    (ProjectPaused, 429, "throttled_error"),
    (Unavailable, 503, "server_error"),
)


def install(app: FastAPI) -> None:
    """Make every error of this application answer in the one shape."""
    app.add_exception_handler(NilometerError, _nilometer_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_middleware(methods.HeadAsGet)
    app.add_middleware(UnexpectedErrors)


def answer(
    status: int,
    error: tuple[str, str, str],
    attr: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The answer of an error given as type, code and detail."""
    kind, code, detail = error
    body = orjson.dumps({"type": kind, "code": code, "detail": detail, "attr": attr})
    return Response(body, status, headers=dict(headers or {}), media_type=_JSON)


def _nilometer_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, NilometerError)
    for kind, status, name in _STATUSES:
        if isinstance(error, kind):
            return answer(status, (name, error.code, error.detail), error.attr, _headers(error))
    _log(request.scope, error)
    return answer(500, _SERVER_ERROR)


def _headers(error: NilometerError) -> dict[str, str]:
    if isinstance(error, NotAuthenticated | UnknownKey):
        return {"WWW-Authenticate": "Bearer"}
    return {"Retry-After": str(error.retry_after)} if isinstance(error, Unavailable) else {}


def _validation_error(request: Request, error: Exception) -> Response:
    """400 with the first fault; never the value that was sent."""
    assert isinstance(error, RequestValidationError)
    first: Mapping[str, Any] = error.errors()[0]
    attr = ".".join(str(part) for part in first["loc"][1:]) or None
    told = str(first["msg"])
    if first["type"] == "extra_forbidden":
        told = f"there is no such parameter here; there {_parameters(request)}"
    detail = f"{attr}: {told}." if attr else f"{told}."
    return answer(400, ("validation_error", str(first["type"]), detail), attr)


def _parameters(request: Request) -> str:
    """What the route of a request takes in its query, as its dependencies declare it."""
    names: list[str] = []
    waiting: list[Dependant] = [request.scope["route"].dependant]
    while waiting:
        each = waiting.pop()
        waiting += each.dependencies
        for parameter in each.query_params:
            names += members.members(parameter.field_info.annotation) or [parameter.alias]
    return members.listed([name for name in dict.fromkeys(names) if name != "personal_api_key"])


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = error.headers
    if error.status_code == 405:
        # Starlette names the methods of one route, and a path has a route for each method.
        headers = {"Allow": methods.allowed(request.app.routes, request.scope)}
    code = _HTTP_CODES.get(error.status_code, "invalid_request")
    kind = "server_error" if error.status_code >= 500 else "invalid_request"
    return answer(error.status_code, (kind, code, f"{error.detail}."), headers=headers)


class UnexpectedErrors:
    """The outermost layer: what nobody foresaw is logged, and answered without its text.

    The log gets the error's type and where it came from, not its message: messages quote values,
    and values here are prompts and keys.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve, and answer what went wrong unless an answer has begun."""
        started = False

        async def note(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, note)
        except ClientDisconnect:
            return  # before its body had arrived: nobody is there to be answered
        except Exception as error:
            if scope["type"] != "http":
                raise
            _log(scope, error)
            if started:
                raise  # the body is cut short: the connection must end, or it would look whole
            await answer(500, _SERVER_ERROR)(scope, receive, send)


def _log(scope: Scope, error: Exception) -> None:
    frames = "".join(traceback.format_tb(error.__traceback__))
    logger.error("%s %s: %s\n%s", scope["method"], _route(scope), type(error).__name__, frames)


def _route(scope: Scope) -> str:
    return getattr(scope.get("route"), "path", "unknown route")
