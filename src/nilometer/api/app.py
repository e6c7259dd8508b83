"""The application: every route of management and reading, over parts that are already built."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import FastAPI
from fastapi.responses import HTMLResponse

from nilometer import __version__
from nilometer.api import errors, reference
from nilometer.api.routes import (
    alert_rules,
    approvals,
    audit,
    blobs,
    budgets,
    bulk_decisions,
    dead_letters,
    events,
    exception_decisions,
    exceptions,
    incident_operations,
    keys,
    log,
    notifications,
    organizations,
    packs,
    prices,
    projects,
    query,
    rewrites,
    schemas,
    tools,
    traces,
    usage,
)
from nilometer.api.services import Services, make_context

__all__ = ["Services", "create_app"]

# Routes are looked through in this order for each request: those that are asked most come first.
_ROUTERS = (
    exceptions.router,
    organizations.router,
    projects.router,
    keys.router,
    audit.router,
    events.router,
    traces.router,
    usage.router,
    usage.compatible,
    query.router,
    prices.router,
    rewrites.router,
    budgets.router,
    alert_rules.router,
    blobs.router,
    notifications.router,
    dead_letters.router,
    log.router,
    exception_decisions.router,
    approvals.router,
    bulk_decisions.router,
    incident_operations.router,
    packs.router,
    tools.router,
    schemas.router,
)


def create_app(services: Services) -> FastAPI:
    """The FastAPI application. Its context is at `app.state.context`; close it once requests have
    ended and before the parts are closed."""
    app = FastAPI(
        title="Nilometer",
        version=__version__,
        summary="Read what was captured, and operate what keeps it.",
        docs_url=None,  # FastAPI's pages load scripts from a foreign host
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.context = make_context(services)
    errors.install(app)
    for router in _ROUTERS:
        app.include_router(router)
    app.add_api_route("/docs", _reference(app), methods=["GET"], include_in_schema=False)
    return app


def _reference(app: FastAPI) -> Callable[[], Awaitable[HTMLResponse]]:
    async def show_reference() -> HTMLResponse:
        return HTMLResponse(reference.page(app.openapi()), headers=reference.HEADERS)

    return show_reference
