"""Usage by any dimension: the aggregation contract (docs/usage-api.md), from `calls`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, Field

from nilometer.access.types import Principal, Scope
from nilometer.api.answers import json_answer
from nilometer.api.auth import BEARER, Reader, require
from nilometer.api.routing import ERRORS, private_router, route
from nilometer.api.services import Context, Ctx
from nilometer.domain import clock
from nilometer.pricing.files import load
from nilometer.pricing.overrides import Overrides
from nilometer.usage import answers, savings
from nilometer.usage.dimensions import DIMENSIONS, FILTERS
from nilometer.usage.prices import rates_by
from nilometer.usage.query import DEFAULT_DAYS, DEFAULT_LIMIT, MAX_DAYS, MAX_LIMIT, parse

router = private_router("usage")
# The path that the original tracker's dashboards ask.
compatible = APIRouter(tags=["usage"], dependencies=[BEARER], responses=ERRORS)

# For the one who asked, and asked again each time: `If-None-Match` makes that cheap.
_HEADERS = {"Cache-Control": "private, no-cache", "X-Content-Type-Options": "nosniff"}

_MEANINGS = {
    "start_date": f"`YYYY-MM-DD`, UTC, included; {DEFAULT_DAYS} days before today by default.",
    "end_date": f"Included; today by default. At most {MAX_DAYS} days in all.",
    "aggregation": f"Levels, each for itself: a list of {', '.join(DIMENSIONS)}. By default day.",
    "group_by": "Levels that are combined: `day,model` gives a group a day and model, in pages.",
    "limit": f"Combined groups of a page, 1 to {MAX_LIMIT}; {DEFAULT_LIMIT} by default.",
    "cursor": "From `groups.next_cursor` of the page before.",
    **{name: f"Only what has exactly this {name}." for name in FILTERS},
    "personal_api_key": "The key, for clients that cannot send an Authorization header.",
}


def _documented(names: Iterable[str]) -> dict[str, Any]:
    return {
        "parameters": [
            {
                "name": name,
                "in": "query",
                "required": False,
                "description": _MEANINGS[name],
                "schema": {"type": "string"},
            }
            for name in names
        ]
    }


class UsageAnswer(BaseModel):
    """Usage, summed up and by level. docs/usage-api.md has every member."""

    summary: dict[str, Any]
    aggregations: dict[str, dict[str, dict[str, Any]]] = Field(
        description="`by_LEVEL` for each level that was asked for: groups by their key."
    )
    query: dict[str, Any] = Field(description="What was asked, as it was understood.")
    groups: dict[str, Any] | None = Field(
        None, description="`results` and `next_cursor`, where `group_by` was asked for."
    )


class SavingsAnswer(BaseModel):
    """What caches and batches saved; amounts are exact decimal texts. docs/usage-api.md has every
    member."""

    cache: dict[str, Any]
    batch: dict[str, Any]
    estimated_count: int | None = Field(
        description="Calls whose usage no provider told; null where that is not known."
    )


_OPTIONS: Mapping[str, Any] = {
    "response_model": UsageAnswer,
    "openapi_extra": _documented(_MEANINGS),
}
_SAVINGS: Mapping[str, Any] = {
    "response_model": SavingsAnswer,
    "openapi_extra": _documented((*savings.PARAMETERS, "personal_api_key")),
}


@route(router, "GET", "/projects/{project_id}/usage", **_OPTIONS)
async def show_usage(request: Request, caller: Reader, ctx: Ctx) -> Response:
    """What was spent in a range of days, by any of twelve levels."""
    return await _answer(request, ctx, caller.project_id)


@route(router, "GET", "/projects/{project_id}/usage/savings", **_SAVINGS)
async def show_savings(request: Request, caller: Reader, ctx: Ctx) -> Response:
    """What reading from caches and batch prices saved in a range of days."""
    project_id = caller.project_id
    query = savings.parse_savings(_parameters(request), today=clock.now().date())
    found = await ctx.store_workers.run(lambda: ctx.savings.savings(project_id, query))
    own = ctx.services.accounts.price_overrides

    def priced() -> savings.Json:
        file = ctx.services.settings.prices_file
        everyones = [*own.list(None), *(load(file) if file else ())]
        overrides = Overrides([*own.list(project_id), *everyones]).for_project(project_id)
        return savings.answer(found, rates_by(overrides))

    return json_answer(await ctx.database_workers.run(priced))


@route(compatible, "GET", "/ai_usage", **_OPTIONS)
async def show_own_usage(
    request: Request, principal: Annotated[Principal, Depends(require(Scope.READ))], ctx: Ctx
) -> Response:
    """As `/api/projects/{project_id}/usage/`, of the key's own project."""
    return await _answer(request, ctx, principal.project.project_id)


async def _answer(request: Request, ctx: Context, project_id: int) -> Response:
    query = parse(_parameters(request), today=clock.now().date())

    def read() -> answers.Json:
        return answers.answer(query, ctx.usage.groups(project_id, query))

    body = await ctx.store_workers.run(read)
    etag = answers.etag(body)
    headers = _HEADERS | {"ETag": etag}
    if answers.is_current(etag, request.headers.get("if-none-match", "")):
        return Response(status_code=304, headers=headers)
    return Response(orjson.dumps(body), headers=headers, media_type="application/json")


def _parameters(request: Request) -> dict[str, Sequence[str]]:
    names = dict.fromkeys(request.query_params)
    return {
        name: request.query_params.getlist(name) for name in names if name != "personal_api_key"
    }
