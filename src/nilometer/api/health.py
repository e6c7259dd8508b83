"""Liveness, readiness and metrics: what an operator's machinery asks, without a key.

Readiness is per role, so that capture goes on taking events while the store is down: without
`?role=` the answer is 200 as long as every role whose failure would lose or refuse events is ready,
and the body tells about the others. However many ask, each part is checked once at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.concurrency import run_in_threadpool

from nilometer.api.shared_check import OK, Check, SharedCheck
from nilometer.errors import InvalidInput
from nilometer.observability.metrics import REGISTRY

__all__ = ["Check", "Health", "create_router"]

CHECK_TIMEOUT = 5.0
FRESH_SECONDS = 1.0

_Roles = Mapping[str, Mapping[str, SharedCheck]]


@dataclass(frozen=True, slots=True)
class Health:
    """The checks of each role of this process, by name, and what sets gauges before a scrape.

    A check that stands in two roles is one check. Checks that block do so in a thread.
    """

    roles: Mapping[str, Mapping[str, Check]]
    refresh_gauges: Callable[[], None]
    timeout: float = CHECK_TIMEOUT
    fresh: float = FRESH_SECONDS


def create_router(health: Health) -> APIRouter:
    """The routes `/`, `/_liveness`, `/_readiness` and `/metrics`."""
    router = APIRouter(include_in_schema=False)
    roles = _shared(health)
    gauges = SharedCheck(
        lambda: run_in_threadpool(health.refresh_gauges),
        timeout=health.timeout,
        fresh=health.fresh,
    )

    @router.get("/")
    async def root() -> PlainTextResponse:
        return PlainTextResponse("nilometer\n")

    @router.get("/_liveness")
    async def liveness() -> JSONResponse:
        return JSONResponse({"status": "ok"})

    @router.get("/_readiness")
    async def readiness(role: str | None = None) -> JSONResponse:
        if role is not None and role not in roles:
            raise InvalidInput(
                f"This process has no role {role!a}; its roles are {', '.join(roles)}.",
                attr="role",
            )
        return await _readiness(roles, role)

    @router.get("/metrics")
    async def metrics() -> Response:
        await gauges.result()  # where they cannot be set, the others are still worth a scrape
        return Response(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)

    return router


def _shared(health: Health) -> _Roles:
    made: dict[Check, SharedCheck] = {}

    def shared(check: Check) -> SharedCheck:
        if check not in made:
            made[check] = SharedCheck(check, timeout=health.timeout, fresh=health.fresh)
        return made[check]

    return {
        role: {name: shared(check) for name, check in checks.items()}
        for role, checks in health.roles.items()
    }


async def _readiness(roles: _Roles, role: str | None) -> JSONResponse:
    names = [role] if role else list(roles)
    reports = dict(
        zip(
            names,
            await asyncio.gather(*(_report(roles[name]) for name in names)),
            strict=True,
        )
    )
    degraded = not all(report["ready"] for report in reports.values())
    deciding = role or ("capture" if "capture" in reports else names[0])
    up = bool(reports[deciding]["ready"])
    status = "unavailable" if not up else "degraded" if degraded else "ok"
    return JSONResponse({"status": status, "roles": reports}, 200 if up else 503)


async def _report(checks: Mapping[str, SharedCheck]) -> dict[str, Any]:
    results = await asyncio.gather(*(check.result() for check in checks.values()))
    return {
        "ready": all(result == OK for result in results),
        "checks": dict(zip(checks, results, strict=True)),
    }
