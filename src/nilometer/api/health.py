"""Liveness, readiness and metrics: what an operator's machinery asks, without a key.

Readiness is per role, so that capture goes on taking events while the store is down: without
`?role=` the answer is 200 as long as every role whose failure would lose or refuse events is ready,
and the body tells about the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.concurrency import run_in_threadpool

from nilometer.errors import InvalidInput, NilometerError
from nilometer.observability.metrics import REGISTRY

CHECK_TIMEOUT = 5.0

# Returns when the part works; raises NilometerError, or runs into the timeout, when it does not.
Check = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Health:
    """The checks of each role of this process, by name, and what sets gauges before a scrape."""

    roles: Mapping[str, Mapping[str, Check]]
    refresh_gauges: Callable[[], None]


def create_router(health: Health) -> APIRouter:
    """The routes `/`, `/_liveness`, `/_readiness` and `/metrics`."""
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    async def root() -> PlainTextResponse:
        return PlainTextResponse("nilometer\n")

    @router.get("/_liveness")
    async def liveness() -> JSONResponse:
        return JSONResponse({"status": "ok"})

    @router.get("/_readiness")
    async def readiness(role: str | None = None) -> JSONResponse:
        if role is not None and role not in health.roles:
            raise InvalidInput(
                f"This process has no role {role!a}; its roles are {', '.join(health.roles)}.",
                attr="role",
            )
        return await _readiness(health, role)

    @router.get("/metrics")
    async def metrics() -> Response:
        await run_in_threadpool(health.refresh_gauges)
        return Response(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)

    return router


async def _readiness(health: Health, role: str | None) -> JSONResponse:
    names = [role] if role else list(health.roles)
    reports = dict(
        zip(
            names,
            await asyncio.gather(*(_report(health.roles[name]) for name in names)),
            strict=True,
        )
    )
    degraded = not all(report["ready"] for report in reports.values())
    deciding = role or ("capture" if "capture" in reports else names[0])
    up = bool(reports[deciding]["ready"])
    status = "unavailable" if not up else "degraded" if degraded else "ok"
    return JSONResponse({"status": status, "roles": reports}, 200 if up else 503)


async def _report(checks: Mapping[str, Check]) -> dict[str, Any]:
    results = await asyncio.gather(*(_outcome(check) for check in checks.values()))
    return {
        "ready": all(result == "ok" for result in results),
        "checks": dict(zip(checks, results, strict=True)),
    }


async def _outcome(check: Check) -> str:
    try:
        await asyncio.wait_for(check(), CHECK_TIMEOUT)
    except TimeoutError:
        return f"no answer within {CHECK_TIMEOUT:g} s"
    except NilometerError as error:
        return error.detail
    return "ok"
