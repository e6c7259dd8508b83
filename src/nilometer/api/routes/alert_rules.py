"""Alert rules: what is looked for, and what broke, fired and was told of."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal, InvalidOperation
from typing import Annotated

from fastapi import Query, Request, Response
from pydantic import Field

from nilometer.alerts.anomalies import DEFAULT, Sensitivity
from nilometer.alerts.kinds import MEASURES, OF_CALLS, WHOLE, Kind, Source
from nilometer.alerts.rule import SEVERITIES, AlertRule, Condition, RaisedAs, check_number
from nilometer.alerts.rules import MAX_LISTED, Alert, AlertRules, StoredRule, UnusualDay
from nilometer.api import shapes
from nilometer.api.answers import json_answer
from nilometer.api.auth import Caller, ProjectAdmin, Reader
from nilometer.api.bodies import Body, documented, read_body
from nilometer.api.routing import NO_PARAMETERS, QueryModel, private_router, route
from nilometer.api.services import Context, Ctx
from nilometer.budgets.budget import plain
from nilometer.errors import InvalidInput

router = private_router("alerts")

_PATH = "/projects/{project_id}/alert_rules"
_LONGEST = 32
_LONGEST_SECONDS = 10**7


class AlertRuleBody(Body):
    """A rule. See docs/alerts.md."""

    name: str
    kind: Kind = Kind.SPEND_UNUSUAL
    dimension: str = Field(
        WHOLE, description=f"One of {', '.join(OF_CALLS)}; of some kinds others."
    )
    value: str = Field("", description="Only this one; each of them by default.")
    filters: dict[str, str] = Field({}, description="Values of other dimensions that it must have.")
    threshold: str | None = Field(None, description="By default its kind's, where that has one.")
    window_seconds: int | None = Field(None, description="What is measured; its kind's by default.")
    min_calls: int | None = Field(None, description="Fewer say nothing; its kind's by default.")
    for_seconds: int = Field(0, description="For how long it must hold before it fires.")
    cooldown_seconds: int = Field(0, description="For how long it then does not fire again.")
    raise_exception: bool = Field(False, description="Whether it raises one when it fires.")
    exception_type: str | None = Field(None, description="Its kind's by default.")
    severity: str | None = Field(
        None, description=f"One of {', '.join(SEVERITIES)}; its kind's by default."
    )
    score: str = Field(plain(DEFAULT.score), description="So many times the usual noise.")
    min_percent: str = Field(plain(DEFAULT.min_percent), description="Above what is expected.")
    min_amount_usd: str = Field(plain(DEFAULT.min_amount), description="Above it, in US dollars.")
    min_history: int = Field(DEFAULT.min_history, description="Earlier days that are needed.")
    channels: list[str] | None = Field(
        None, description="Notification channels by id; null for every one of the project."
    )


class AlertsQuery(QueryModel):
    """Which alerts."""

    rule_id: str | None = Field(None, description="Only those of this rule.")
    limit: int = Field(100, ge=1, le=MAX_LISTED)


class UnusualDaysQuery(QueryModel):
    """How many days."""

    limit: int = Field(100, ge=1, le=MAX_LISTED)


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


@route(router, "GET", "/projects/{project_id}/alerts")
async def list_alerts(caller: Reader, ctx: Ctx, query: Annotated[AlertsQuery, Query()]) -> Response:
    """Conditions of alert rules that are broken, or were and fired, newest first."""
    own = _own(ctx, caller)
    found = await ctx.database_workers.run(
        lambda: own.alerts(caller.project_id, rule_id=query.rule_id, limit=query.limit)
    )
    return json_answer({"results": [_alert(each) for each in found]})


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
        kind=body.kind,
        condition=_condition(body),
        filters=body.filters,
        raised_as=_raised_as(body),
    )


def _condition(body: AlertRuleBody) -> Condition | None:
    measure = MEASURES[body.kind]
    if measure.source is Source.DAYS:
        return None
    stated = None if body.threshold is None else _number("threshold", body.threshold)
    threshold = measure.threshold if stated is None else stated
    if threshold is None:
        raise InvalidInput(f"threshold is what a rule of {body.kind} needs.", attr="threshold")
    window = body.window_seconds
    return Condition(
        threshold=threshold,
        window=measure.window if window is None else _span("window_seconds", window),
        min_calls=measure.min_calls if body.min_calls is None else body.min_calls,
        holds_for=_span("for_seconds", body.for_seconds),
        cooldown=_span("cooldown_seconds", body.cooldown_seconds),
    )


def _raised_as(body: AlertRuleBody) -> RaisedAs | None:
    if not body.raise_exception:
        return None
    measure = MEASURES[body.kind]
    return RaisedAs(
        measure.exception_type if body.exception_type is None else body.exception_type,
        measure.severity if body.severity is None else body.severity,
    )


def _span(attr: str, seconds: int) -> timedelta:
    if not 0 <= seconds <= _LONGEST_SECONDS:
        raise InvalidInput(f"{attr} is at most {_LONGEST_SECONDS}.", attr=attr)
    return timedelta(seconds=seconds)


def _number(name: str, text: str) -> Decimal:
    try:
        found = Decimal(text) if len(text) <= _LONGEST else Decimal("NaN")
    except InvalidOperation:
        found = Decimal("NaN")
    check_number(name, found)
    return found


def _json(stored: StoredRule) -> shapes.Json:
    rule, how = stored.rule, stored.rule.sensitivity
    return {
        "id": rule.id,
        "project_id": stored.project_id,
        "name": rule.name,
        "kind": rule.kind,
        "dimension": rule.dimension,
        "value": rule.value,
        "filters": dict(rule.filters),
        **_of_condition(rule.condition),
        **_of_exception(rule.raised_as),
        "score": plain(how.score),
        "min_percent": plain(how.min_percent),
        "min_amount_usd": plain(how.min_amount),
        "min_history": how.min_history,
        "channels": None if rule.channels is None else list(rule.channels),
        "created_at": shapes.moment(stored.created_at),
    }


def _of_condition(condition: Condition | None) -> shapes.Json:
    """What a rule of days has not is null."""
    return {
        "threshold": condition and plain(condition.threshold),
        "window_seconds": condition and int(condition.window.total_seconds()),
        "min_calls": condition and condition.min_calls,
        "for_seconds": condition and int(condition.holds_for.total_seconds()),
        "cooldown_seconds": condition and int(condition.cooldown.total_seconds()),
    }


def _of_exception(raised_as: RaisedAs | None) -> shapes.Json:
    return {
        "raise_exception": raised_as is not None,
        "exception_type": raised_as and raised_as.exception_type,
        "severity": raised_as and raised_as.severity,
    }


def _alert(alert: Alert) -> shapes.Json:
    return {
        "id": alert.id,
        "rule_id": alert.rule_id,
        "subject": alert.subject,
        "state": _state(alert),
        "measured": plain(alert.measured),
        "call_count": alert.calls,
        "facts": dict(alert.facts),
        "broken_at": shapes.moment(alert.broken_at),
        "fired_at": shapes.moment(alert.fired_at),
        "recovered_at": shapes.moment(alert.recovered_at),
        "exception_id": alert.exception_id,
    }


def _state(alert: Alert) -> str:
    if alert.recovered_at is not None:
        return "recovered"
    return "pending" if alert.fired_at is None else "firing"


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
        "exception_id": day.exception_id,
    }
