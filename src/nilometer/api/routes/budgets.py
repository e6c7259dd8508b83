"""Budgets: what may be spent, what is, which thresholds fired, and whether a call may be made."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

from fastapi import Query, Request, Response
from pydantic import Field

from nilometer.api import shapes
from nilometer.api.answers import json_answer
from nilometer.api.auth import Caller, Capturer, ProjectAdmin, Reader
from nilometer.api.bodies import Body, Given, documented, read_body
from nilometer.api.routing import NO_PARAMETERS, QueryModel, private_router, route
from nilometer.api.services import Context, Ctx
from nilometer.budgets import check
from nilometer.budgets.budget import (
    DEFAULT_THRESHOLDS,
    MAX_VALUE,
    Budget,
    BudgetScope,
    ScopeKind,
    plain,
    usd,
)
from nilometer.budgets.evaluation import Evaluation, assess
from nilometer.budgets.periods import Period
from nilometer.budgets.store import MAX_ALERTS, Alert, Budgets, Changes, StoredBudget
from nilometer.domain import clock
from nilometer.errors import NilometerError
from nilometer.observability import metrics

router = private_router("budgets")

_PATH = "/projects/{project_id}/budgets"
_ONE = f"{_PATH}/{{budget_id}}"
_SUBJECT = (
    ScopeKind.SERVICE,
    ScopeKind.MODEL,
    ScopeKind.USER,
    ScopeKind.JOB,
    ScopeKind.ENVIRONMENT,
)
_ALLOWED, _STOPPED, _UNKNOWN = map(metrics.BUDGET_CHECKS.labels, ("allowed", "stopped", "unknown"))
_DOLLARS = 'US dollars as text: "99.50".'


class BudgetBody(Body):
    """A budget. See docs/budgets.md."""

    name: str
    scope: ScopeKind = ScopeKind.PROJECT
    value: str = Field("", description="The service, model, user, job or environment.")
    amount_usd: str = Field(description=_DOLLARS)
    period: Period
    time_zone: str = Field("UTC", description="An IANA name, such as Europe/Berlin.")
    thresholds: list[int] = Field(
        list(DEFAULT_THRESHOLDS), description="Whole percents of the limit, ascending."
    )
    rollover_cap_usd: str | None = Field(
        None, description="How much of what is unspent carries over at most; null for nothing."
    )
    hard_stop: bool = Field(False, description="Whether the check says no at the limit.")
    raise_exception: bool = Field(
        False, description="Whether thresholds that fire raise an exception."
    )
    channels: list[str] | None = Field(
        None, description="Notification channels by id; null for every one of the project."
    )


class BudgetChanges(Body):
    """What of a budget may be changed; what is not there stays."""

    name: Given[str] = None
    amount_usd: Given[str] = Field(None, description=_DOLLARS)
    thresholds: Given[list[int]] = None
    rollover_cap_usd: str | None = Field(None, description="Null for nothing.")
    hard_stop: Given[bool] = None
    raise_exception: Given[bool] = None
    channels: list[str] | None = Field(None, description="Null for every one of the project.")


class CheckBody(Body):
    """The call that is about to be made, as far as it is known."""

    service: Given[str] = Field(None, max_length=MAX_VALUE)
    model: Given[str] = Field(None, max_length=MAX_VALUE)
    user: Given[str] = Field(None, max_length=MAX_VALUE)
    job: Given[str] = Field(None, max_length=MAX_VALUE)
    environment: Given[str] = Field(None, max_length=MAX_VALUE)


class AlertsQuery(QueryModel):
    """Which alerts."""

    budget_id: str | None = Field(None, description="Only those of this budget.")
    limit: int = Field(100, ge=1, le=MAX_ALERTS)


@route(router, "GET", _PATH, dependencies=[NO_PARAMETERS])
async def list_budgets(caller: Reader, ctx: Ctx) -> Response:
    """The project's budgets by name, each with how it stands."""
    own = _own(ctx, caller)

    def read() -> list[shapes.Json]:
        return _with_status(ctx, caller.project_id, own, own.list(caller.project_id))

    return json_answer({"results": await ctx.store_workers.run(read)})


@route(
    router,
    "POST",
    _PATH,
    status_code=201,
    openapi_extra=documented(BudgetBody),
    dependencies=[NO_PARAMETERS],
)
async def add_budget(request: Request, caller: ProjectAdmin, ctx: Ctx) -> Response:
    """A new budget. What was spent since its period began counts, so it may fire at once."""
    body = await read_body(request, BudgetBody)
    own = _own(ctx, caller)
    added = await ctx.database_workers.run(
        lambda: own.add(
            caller.project_id,
            name=body.name,
            scope=BudgetScope(body.scope, body.value),
            amount=usd("amount_usd", body.amount_usd),
            period=body.period,
            time_zone=body.time_zone,
            thresholds=tuple(body.thresholds),
            rollover_cap=_cap(body.rollover_cap_usd),
            hard_stop=body.hard_stop,
            channels=None if body.channels is None else tuple(body.channels),
            raise_exception=body.raise_exception,
        )
    )
    ctx.services.wake_budgets([caller.project_id])
    return json_answer(_json(added), 201)


@route(
    router,
    "POST",
    f"{_PATH}/check",
    openapi_extra=documented(CheckBody, required=False),
    dependencies=[NO_PARAMETERS],
)
async def check_budgets(request: Request, caller: Capturer, ctx: Ctx) -> Response:
    """Whether a call may be made, for gateways and the client library to ask before it. Takes a
    project key, or a personal key with the scope `capture`."""
    body = await read_body(request, CheckBody)
    subject = {kind: value for kind in _SUBJECT if (value := getattr(body, kind)) is not None}
    try:
        known = await ctx.budget_checks.standing(caller.project_id)
    except NilometerError:
        _UNKNOWN.inc()
        raise
    said = check.verdict(known, subject)
    (_ALLOWED if said.allowed else _STOPPED).inc()
    return json_answer(
        {
            "allowed": said.allowed,
            "as_of": shapes.moment(known.at),
            "budgets": [_checked(each) for each in said.evaluations],
        }
    )


@route(router, "GET", _ONE, dependencies=[NO_PARAMETERS])
async def show_budget(budget_id: str, caller: Reader, ctx: Ctx) -> Response:
    """One budget and how it stands, with a forecast."""
    own = _own(ctx, caller)

    def read() -> shapes.Json:
        found = own.get(caller.project_id, budget_id)
        return _with_status(ctx, caller.project_id, own, [found])[0]

    return json_answer(await ctx.store_workers.run(read))


@route(
    router,
    "PATCH",
    _ONE,
    openapi_extra=documented(BudgetChanges),
    dependencies=[NO_PARAMETERS],
)
async def change_budget(
    request: Request, budget_id: str, caller: ProjectAdmin, ctx: Ctx
) -> Response:
    """Change a budget. Another scope, period or time zone is another budget."""
    body = await read_body(request, BudgetChanges)
    own, changes = _own(ctx, caller), _changes(body)
    changed = await ctx.database_workers.run(
        lambda: own.change(caller.project_id, budget_id, changes)
    )
    ctx.services.wake_budgets([caller.project_id])
    return json_answer(_json(changed))


@route(router, "DELETE", _ONE, dependencies=[NO_PARAMETERS])
async def remove_budget(budget_id: str, caller: ProjectAdmin, ctx: Ctx) -> Response:
    """Remove a budget and its alerts."""
    own = _own(ctx, caller)
    removed = await ctx.database_workers.run(lambda: own.remove(caller.project_id, budget_id))
    ctx.services.wake_budgets([caller.project_id])
    return json_answer(_json(removed))


@route(router, "GET", "/projects/{project_id}/budget_alerts")
async def list_alerts(caller: Reader, ctx: Ctx, query: Annotated[AlertsQuery, Query()]) -> Response:
    """Thresholds that fired, newest first."""
    own = _own(ctx, caller)
    found = await ctx.database_workers.run(
        lambda: own.alerts(caller.project_id, budget_id=query.budget_id, limit=query.limit)
    )
    return json_answer({"results": [_alert(each) for each in found]})


def _own(ctx: Context, caller: Caller) -> Budgets:
    return ctx.services.budgets.acting_as(caller.authority)


def _changes(body: BudgetChanges) -> Changes:
    changes: dict[str, Any] = {}
    if body.name is not None:
        changes["name"] = body.name
    if body.amount_usd is not None:
        changes["amount"] = usd("amount_usd", body.amount_usd)
    if body.thresholds is not None:
        changes["thresholds"] = tuple(body.thresholds)
    if "rollover_cap_usd" in body.model_fields_set:
        changes["rollover_cap"] = _cap(body.rollover_cap_usd)
    if body.hard_stop is not None:
        changes["hard_stop"] = body.hard_stop
    if body.raise_exception is not None:
        changes["raise_exception"] = body.raise_exception
    if "channels" in body.model_fields_set:
        changes["channels"] = None if body.channels is None else tuple(body.channels)
    return Changes(**changes)


def _cap(text: str | None) -> Decimal | None:
    return None if text is None else usd("rollover_cap_usd", text)


def _with_status(
    ctx: Context, project_id: int, own: Budgets, found: list[StoredBudget]
) -> list[shapes.Json]:
    organizations = {each.organization_id for each in found if each.is_global}
    projects = [each for one in organizations for each in own.projects_of(one)]
    spend = ctx.services.spend.of_project(project_id, projects)
    assessments = assess(spend, [each.budget for each in found], clock.now(), forecasts=True)
    return [
        _json(stored) | {"status": _status(assessment.current)}
        for stored, assessment in zip(found, assessments, strict=True)
    ]


def _json(stored: StoredBudget) -> shapes.Json:
    budget = stored.budget
    cap = budget.rollover_cap
    return {
        "id": budget.id,
        "project_id": stored.project_id,
        "name": budget.name,
        "scope": budget.scope.kind,
        "value": budget.scope.value,
        "amount_usd": plain(budget.amount),
        "period": budget.period,
        "time_zone": budget.time_zone,
        "thresholds": list(budget.thresholds),
        "rollover_cap_usd": None if cap is None else plain(cap),
        "hard_stop": budget.hard_stop,
        "raise_exception": budget.raise_exception,
        "channels": None if budget.channels is None else list(budget.channels),
        "created_at": shapes.moment(budget.created_at),
        "updated_at": shapes.moment(stored.updated_at),
    }


def _status(evaluation: Evaluation) -> shapes.Json:
    forecast = evaluation.forecast
    return {
        **_period(evaluation),
        **_spending(evaluation),
        "carried_usd": plain(evaluation.carried),
        "left_usd": plain(evaluation.left),
        "reached": list(evaluation.crossed),
        "stopped": evaluation.stops,
        "forecast": forecast
        and {
            "method": forecast.method,
            "cost_usd": plain(forecast.cost),
            "limit_at": shapes.moment(forecast.limit_at),
        },
    }


def _checked(evaluation: Evaluation) -> shapes.Json:
    budget: Budget = evaluation.budget
    return {
        "id": budget.id,
        "name": budget.name,
        "scope": budget.scope.kind,
        "value": budget.scope.value,
        "hard_stop": budget.hard_stop,
        **_period(evaluation),
        **_spending(evaluation),
        "exceeded": evaluation.stops,
    }


def _period(evaluation: Evaluation) -> shapes.Json:
    return {
        "period": evaluation.bounds.name,
        "period_start": shapes.moment(evaluation.bounds.start),
        "period_end": shapes.moment(evaluation.bounds.end),
    }


def _spending(evaluation: Evaluation) -> shapes.Json:
    return {
        "spent_usd": plain(evaluation.spent.cost),
        "limit_usd": plain(evaluation.limit),
        "percent": f"{evaluation.percent:f}",
        "call_count": evaluation.spent.calls,
        "unpriced_count": evaluation.spent.unpriced,
    }


def _alert(alert: Alert) -> shapes.Json:
    return {
        "id": alert.id,
        "budget_id": alert.budget_id,
        "threshold": alert.threshold,
        "period": alert.period_name,
        "period_start": shapes.moment(alert.period_start),
        "period_end": shapes.moment(alert.period_end),
        "amount_usd": plain(alert.amount),
        "limit_usd": plain(alert.spend_limit),
        "spent_usd": plain(alert.spent),
        "call_count": alert.calls,
        "unpriced_count": alert.unpriced,
        "fired_at": shapes.moment(alert.fired_at),
        "lapsed_at": shapes.moment(alert.lapsed_at),
        "exception_id": alert.exception_id,
    }
