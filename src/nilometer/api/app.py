"""The application: every route of management and reading, over parts that are already built."""

from __future__ import annotations

from fastapi import FastAPI

from nilometer import __version__
from nilometer.api import errors
from nilometer.api.routes import (
    audit,
    blobs,
    dead_letters,
    events,
    keys,
    log,
    organizations,
    projects,
    query,
    schemas,
    traces,
)
from nilometer.api.services import Services, make_context

__all__ = ["Services", "create_app"]

_ROUTERS = (
    organizations.router,
    projects.router,
    keys.router,
    audit.router,
    events.router,
    traces.router,
    query.router,
    blobs.router,
    dead_letters.router,
    log.router,
    schemas.router,
)


def create_app(services: Services) -> FastAPI:
    """The FastAPI application. Its context is at `app.state.context`; close it once requests have
    ended and before the parts are closed."""
    app = FastAPI(
        title="Nilometer",
        version=__version__,
        summary="Read what was captured, and operate what keeps it.",
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.context = make_context(services)
    errors.install(app)
    for router in _ROUTERS:
        app.include_router(router)
    return app
