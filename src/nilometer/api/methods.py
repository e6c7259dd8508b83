"""HEAD wherever there is GET, and an `Allow` that names every method of a path."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


class HeadAsGet:
    """Serves HEAD as GET without its body (RFC 9110, section 9.3.2)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def without_body(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        await self._app({**scope, "method": "GET"}, receive, without_body)


def allowed(routes: Iterable[Any], scope: Scope) -> str:
    """The methods that the path of this request has, as `Allow` lists them (section 10.2.1)."""
    routes = list(routes)
    found = [method for method in METHODS if _has(routes, scope, method)]
    if "GET" in found and "HEAD" not in found:
        found.insert(1, "HEAD")
    return ", ".join(found)


def _has(routes: Iterable[Any], scope: Scope, method: str) -> bool:
    asked = {**scope, "method": method}
    return any(cast("Match", each.matches(dict(asked))[0]) is Match.FULL for each in routes)
