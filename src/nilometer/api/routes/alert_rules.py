"""Alert rules: what is told of days that cost unusually much, and the days that were told of."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Annotated

from fastapi import Query, Request, Response
from pydantic import Field

from nilometer.api import shapes
from nilometer.api.answers import json_answer
from nilometer.api.auth import Caller, ProjectAdmin, Reader
from nilometer.api.bodies import Body, documented, read_body
from nilometer.api.routing import NO_PARAMETERS, QueryModel, private_router, route
from nilometer.api.services import Context, Ctx
from nilometer.budgets.anomalies import DEFAULT, Sensitivity
from nilometer.budgets.budget import plain
from nilometer.budgets.rules import MAX_DAYS, AlertRules, StoredRule, UnusualDay
from nilometer.budgets.unusual import DIMENSIONS, EVERYTHING, AlertRule
from nilometer.errors import InvalidInput

router = private_router("budgets")

_PATH = "/projects/{project_id}/alert_rules"
_LONGEST = 32


class AlertRuleBody(Body):
    """A rule. See docs/budgets.md."""

    name: str
    dimension: str = Field(EVERYTHING, description=f"One of {', '.join(DIMENSIONS)}.")
    value: str = Field("", description="Only this one; each of them by default.")
    score: str = Field(plain(DEFAULT.score), description="So many times the usual noise.")
    min_percent: str = Field(plain(DEFAULT.min_percent), description="Above what is expected.")
    min_amount_usd: str = Field(plain(DEFAULT.min_amount), description="Above it, in US dollars.")
    min_history: int = Field(DEFAULT.min_history, description="Earlier days that are needed.")
    channels: list[str] | None = Field(
        None, description="Notification channels by id; null for every one of the project."
    )


class UnusualDaysQuery(QueryModel):
    """How many days."""

    limit: int = Field(100, ge=1, le=MAX_DAYS)


@route(router, "GET", _PATH, dependencies=[NO_PARAMETERS])
async def list_rules(caller: Reader, ctx: Ctx) -> Response:
    """The project's alert rules by name."""
    own = _own(ctx, caller)
    found = await ctx.database_workers.run(lambda: own.list(caller.project_id))
    return json_answer({"results": [_json(each) for each in found]})


@route(
    router,
    "POST",
    _PATH,
    status_code=201,
    openapi_extra=documented(AlertRuleBody),
    dependencies=[NO_PARAMETERS],
)
async def add_rule(request: Request, caller: ProjectAdmin, ctx: Ctx) -> Response:
    """A new alert rule."""
    body = await read_body(request, AlertRuleBody)
    own, rule = _own(ctx, caller), _rule(body)
    added = await ctx.database_workers.run(lambda: own.add(caller.project_id, rule))
    return json_answer(_json(added), 201)


@route(router, "DELETE", f"{_PATH}/{{rule_id}}", status_code=204, dependencies=[NO_PARAMETERS])
async def remove_rule(rule_id: str, caller: ProjectAdmin, ctx: Ctx) -> Response:
    """Remove an alert rule and what it told of."""
    own = _own(ctx, caller)
    await ctx.database_workers.run(lambda: own.remove(caller.project_id, rule_id))
    return Response(status_code=204)


@route(router, "GET", "/projects/{project_id}/unusual_days")
async def list_unusual_days(
    caller: Reader, ctx: Ctx, query: Annotated[UnusualDaysQuery, Query()]
) -> Response:
    """The days that alert rules told of, newest first."""
    own = _own(ctx, caller)
    found = await ctx.database_workers.run(lambda: own.days(caller.project_id, query.limit))
    return json_answer({"results": [_day(each) for each in found]})


def _own(ctx: Context, caller: Caller) -> AlertRules:
    return ctx.services.alert_rules.acting_as(caller.authority)


def _rule(body: AlertRuleBody) -> AlertRule:
    return AlertRule(
        id="",
        name=body.name.strip(),
        dimension=body.dimension,
        value=body.value,
        sensitivity=Sensitivity(
            score=_number("score", body.score),
            min_percent=_number("min_percent", body.min_percent),
            min_amount=_number("min_amount_usd", body.min_amount_usd),
            min_history=body.min_history,
        ),
        channels=None if body.channels is None else tuple(body.channels),
    )


def _number(name: str, text: str) -> Decimal:
    try:
        found = Decimal(text) if len(text) <= _LONGEST else None
    except InvalidOperation:
        found = None
    exponent = None if found is None else found.as_tuple().exponent
    if found is None or not isinstance(exponent, int) or exponent < -18:
        raise InvalidInput(f'{name} is a number as text, such as "2.5".', attr=name)
    return found


def _json(stored: StoredRule) -> shapes.Json:
    rule, how = stored.rule, stored.rule.sensitivity
    return {
        "id": rule.id,
        "project_id": stored.project_id,
        "name": rule.name,
        "dimension": rule.dimension,
        "value": rule.value,
        "score": plain(how.score),
        "min_percent": plain(how.min_percent),
        "min_amount_usd": plain(how.min_amount),
        "min_history": how.min_history,
        "channels": None if rule.channels is None else list(rule.channels),
        "created_at": shapes.moment(stored.created_at),
    }


def _day(day: UnusualDay) -> shapes.Json:
    return {
        "id": day.id,
        "rule_id": day.rule_id,
        "day": day.day,
        "value": day.value,
        "spent_usd": plain(day.spent),
        "expected_usd": plain(day.expected),
        "score": plain(day.score),
        "method": day.method,
        "fired_at": shapes.moment(day.fired_at),
    }
