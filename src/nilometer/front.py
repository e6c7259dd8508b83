"""Which application answers a request: by the port that it came to, then by its path."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import Any

from nilometer.api.errors import answer

Asgi = Callable[[Any, Any, Any], Awaitable[None]]

PROBES = frozenset({"/_liveness", "/_readiness"})
"""What the port for capture alone answers besides: whoever balances its load needs them."""

# What the API answers for a path that it does not have.
_NOT_FOUND = answer(404, ("invalid_request", "not_found", "Not Found."))


def front(
    capture: Asgi, capture_paths: Collection[str], api: Asgi, *, capture_port: int | None
) -> Asgi:
    """One application: capture's paths go straight to it, everything else to the API.

    On `capture_port`, if there is one, everything else is not found, but for the probes. The port
    is that of the socket, which no header can change.
    """

    def route(scope: Any, receive: Any, send: Any) -> Awaitable[None]:
        http = scope["type"] == "http"
        if http and scope["path"] in capture_paths:
            return capture(scope, receive, send)
        if http and scope["server"][1] == capture_port and scope["path"] not in PROBES:
            return _NOT_FOUND(scope, receive, send)
        return api(scope, receive, send)

    return route
