"""Prices of one's own, and the names that have none."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from fastapi import Query, Request, Response
from pydantic import Field

from nilometer.access.price_overrides import PriceOverrides
from nilometer.api import shapes
from nilometer.api.answers import json_answer
from nilometer.api.auth import DeploymentOperator, Member, ProjectAdmin, Reader
from nilometer.api.bodies import Body, documented, read_body
from nilometer.api.routing import NO_PARAMETERS, QueryModel, private_router, route
from nilometer.api.services import Context, Ctx
from nilometer.domain import clock
from nilometer.pricing.book import Book, current
from nilometer.pricing.files import load, moment
from nilometer.pricing.names import normalized
from nilometer.pricing.overrides import Override, Overrides
from nilometer.pricing.plans import priced_by
from nilometer.pricing.tiers import STANDARD
from nilometer.query import times
from nilometer.query.models import CalledModel

router = private_router("prices")

_OF_PROJECT = "/projects/{project_id}/price_overrides"
_OF_ALL = "/price_overrides"
_DAY = 86_400_000_000


class OverrideBody(Body):
    """A price of one's own, or which model a name stands for (`alias`). See docs/prices.md."""

    provider: str
    model: str
    effective_from: str = Field(description="A date, or a time with a zone.")
    effective_to: str | None = Field(None, description="Not included; null has no end.")
    per_million_tokens: dict[str, Any] = Field(
        default_factory=dict, description="Dollars as text, by bucket of the token vector."
    )
    per_unit: dict[str, Any] = Field(default_factory=dict, description="Dollars as text, by unit.")
    alias: str | None = Field(None, description="`provider/model` of the price book.")
    region: str = ""
    tier: str = STANDARD


class CheckQuery(QueryModel):
    """How far back to look."""

    days: int = Field(30, ge=1, le=3650, description="Events of the last so many days.")


@route(router, "GET", _OF_PROJECT, dependencies=[NO_PARAMETERS])
async def list_overrides(caller: Reader, ctx: Ctx) -> Response:
    """The project's own prices. Those of all projects are not among them."""
    own = _overrides(ctx, caller)
    found = await ctx.database_workers.run(lambda: own.list(caller.project_id))
    return json_answer(_listed(found))


@route(
    router,
    "POST",
    _OF_PROJECT,
    status_code=201,
    openapi_extra=documented(OverrideBody),
    dependencies=[NO_PARAMETERS],
)
async def add_override(request: Request, caller: ProjectAdmin, ctx: Ctx) -> Response:
    """A price of the project's own, before the operator's and the book's."""
    body = await read_body(request, OverrideBody)
    own = _overrides(ctx, caller)
    added = await ctx.database_workers.run(lambda: _added(own, caller.project_id, body))
    return json_answer(_json(added), 201)


@route(router, "DELETE", f"{_OF_PROJECT}/{{override_id}}", dependencies=[NO_PARAMETERS])
async def remove_override(override_id: str, caller: ProjectAdmin, ctx: Ctx) -> Response:
    """Remove a price of the project's own."""
    own = _overrides(ctx, caller)
    removed = await ctx.database_workers.run(lambda: own.remove(caller.project_id, override_id))
    return json_answer(_json(removed))


@route(router, "GET", _OF_ALL, dependencies=[NO_PARAMETERS])
async def list_everyones(member: DeploymentOperator, ctx: Ctx) -> Response:
    """The prices that the operator set for all projects."""
    found = await ctx.database_workers.run(lambda: _overrides(ctx, member).list(None))
    return json_answer(_listed(found))


@route(
    router,
    "POST",
    _OF_ALL,
    status_code=201,
    openapi_extra=documented(OverrideBody),
    dependencies=[NO_PARAMETERS],
)
async def add_everyones(request: Request, member: DeploymentOperator, ctx: Ctx) -> Response:
    """A price for all projects, before the file's and the book's."""
    body = await read_body(request, OverrideBody)
    own = _overrides(ctx, member)
    added = await ctx.database_workers.run(lambda: _added(own, None, body))
    return json_answer(_json(added), 201)


@route(router, "DELETE", f"{_OF_ALL}/{{override_id}}", dependencies=[NO_PARAMETERS])
async def remove_everyones(override_id: str, member: DeploymentOperator, ctx: Ctx) -> Response:
    """Remove a price for all projects."""
    own = _overrides(ctx, member)
    removed = await ctx.database_workers.run(lambda: own.remove(None, override_id))
    return json_answer(_json(removed))


@route(router, "GET", "/projects/{project_id}/prices/check")
async def check_prices(caller: Reader, ctx: Ctx, query: Annotated[CheckQuery, Query()]) -> Response:
    """The models called that have no price, or are deprecated, with the nearest known names."""
    after = clock.to_micros(clock.now()) - query.days * _DAY
    called = await ctx.store_workers.run(lambda: ctx.models.called(caller.project_id, after))
    known = ctx.services.accounts.price_overrides

    def judge() -> list[shapes.Json]:
        file = ctx.services.settings.prices_file
        everyones = [*known.list(None), *(load(file) if file else ())]
        overrides = Overrides([*known.list(caller.project_id), *everyones])
        overrides = overrides.for_project(caller.project_id)
        return list(_troubles(called, overrides, current()))

    return json_answer(
        {"book": current().version, "results": await ctx.database_workers.run(judge)}
    )


def _troubles(
    called: Iterable[CalledModel], overrides: Overrides, book: Book
) -> Iterable[shapes.Json]:
    for each in called:
        quote = priced_by(each.provider, each.model, overrides, book, clock.now())
        if not quote.reason and not quote.deprecated:
            continue
        nearest = book.nearest(quote.provider, normalized(each.model)) if quote.reason else []
        yield {
            "provider": each.provider,
            "model": each.model,
            "events": each.events,
            "last_seen": times.rfc3339(each.last_seen),
            "reason": quote.reason or "deprecated",
            "nearest": nearest,
        }


def _overrides(ctx: Context, member: Member) -> PriceOverrides:
    return ctx.services.accounts.acting_as(member.authority).price_overrides


def _added(own: PriceOverrides, project_id: int | None, body: OverrideBody) -> Override:
    end = body.effective_to
    return own.add(
        project_id,
        provider=body.provider,
        model=body.model,
        effective_from=moment(body.effective_from, "effective_from"),
        effective_to=None if end is None else moment(end, "effective_to"),
        per_million_tokens=body.per_million_tokens,
        per_unit=body.per_unit,
        alias=body.alias,
        region=body.region,
        tier=body.tier,
    )


def _listed(overrides: list[Override]) -> shapes.Json:
    return {"results": [_json(each) for each in overrides]}


def _json(override: Override) -> shapes.Json:
    return {
        "id": override.id,
        "project_id": override.project_id,
        "provider": override.provider,
        "model": override.model,
        "effective_from": shapes.moment(override.effective_from),
        "effective_to": shapes.moment(override.effective_to),
        "per_million_tokens": {k: f"{v:f}" for k, v in override.per_million_tokens.items()},
        "per_unit": {k: f"{v:f}" for k, v in override.per_unit.items()},
        "alias": "/".join(override.alias) if override.alias else None,
        "region": override.region,
        "tier": override.tier,
    }
