"""What keeps exceptions moving: dead letters, deadlines, and the workers.

Dead letters and workers need the scope `operate`; a dead letter holds what its stage was given.
Deadlines need `read`. Workers serve every tenant, so they are for the operator of the deployment.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from nilometer.api import exception_answers, shapes
from nilometer.api.answers import json_answer, list_answer
from nilometer.api.auth import BEARER, DeploymentOperator
from nilometer.api.bodies import Body, documented, read_body
from nilometer.api.exception_answers import (
    DeadLetterDetailAnswer,
    DeadLettersAnswer,
    DecidedLetterAnswer,
    ExceptionsAnswer,
)
from nilometer.api.routes.events import Text
from nilometer.api.routes.exceptions import is_id
from nilometer.api.routing import ERRORS, NO_PARAMETERS, QueryModel, route
from nilometer.api.services import Context, Ctx
from nilometer.api.tenancy import Seer, Tenant, TenantOperator
from nilometer.domain import clock
from nilometer.incidents import decisions
from nilometer.incidents.events import IncidentEvent
from nilometer.incidents.incident import Deadline, Incident
from nilometer.incidents.reads import IncidentReads
from nilometer.incidents.stage_health import LATE_SECONDS, StageHealth
from nilometer.incidents.views import Filters, LetterState, WholeDeadLetter
from nilometer.query import paging
from nilometer.workflows.task import parse_task_id

router = APIRouter(tags=["exception operations"], dependencies=[BEARER], responses=ERRORS)

_LETTERS = "/ops/dlq"
_LETTER = f"{_LETTERS}/{{task_id}}"
_MAX_DAYS = 90
_MOST_DURATIONS = 10_000


class TenantQuery(QueryModel):
    """Whose; the project of the key, and no other one."""

    tenant_id: Text | None = Field(None, description="The project of the key, which is the default")


class LettersQuery(TenantQuery):
    """Which dead letters."""

    state: LetterState = LetterState.OPEN
    stage: Text | None = Field(None, description="The stage that gave up, such as `tool`.")
    exception_id: Text | None = Field(None, description="Only those of this exception.")
    limit: int = Field(paging.DEFAULT_LIMIT, ge=1, le=paging.MAX_LIMIT)
    cursor: Text | None = Field(None, description="From a page's `next`.")


class PeriodQuery(TenantQuery):
    """Exceptions that were accepted within so many hours."""

    hours: int = Field(24, ge=1, le=24 * _MAX_DAYS, description="Up to now.")

    def times(self) -> tuple[datetime, datetime]:
        """From when on, and until when."""
        now = clock.now()
        return now - timedelta(hours=self.hours), now


class DeadlinesQuery(TenantQuery):
    """A page of exceptions."""

    limit: int = Field(paging.DEFAULT_LIMIT, ge=1, le=paging.MAX_LIMIT)
    cursor: Text | None = Field(None, description="From a page's `next`.")


class DecisionBody(Body):
    """Why it is decided so; it is kept with the key's id."""

    reason: str = Field(min_length=1, max_length=decisions.MAX_REASON)


_DECIDE: dict[str, Any] = {
    "response_model": DecidedLetterAnswer,
    "openapi_extra": documented(DecisionBody),
}


@route(router, "GET", _LETTERS, response_model=DeadLettersAnswer)
async def list_exception_dead_letters(
    request: Request, caller: TenantOperator, ctx: Ctx, query: Annotated[LettersQuery, Query()]
) -> Response:
    """Tasks of exceptions that were given up, the newest first, without what they were given."""
    project_id = caller.project_id
    filters = {"state": query.state, "stage": query.stage, "exception": query.exception_id}
    listing = paging.Listing("exception_dead_letters", project_id, filters)
    before = None
    if query.cursor:
        cursor = paging.decode(query.cursor, listing, key_is_valid=_is_task_id)
        before = clock.from_micros(cursor.micros), cursor.key
    page = await ctx.incidents.read(
        project_id,
        lambda reads: reads.dead_letters(
            query.state,
            queue=query.stage,
            incident_id=query.exception_id,
            limit=query.limit,
            before=before,
        ),
    )
    next_ = None
    if page.more:
        last = page.rows[-1]
        place = paging.Cursor(clock.to_micros(last.listed_at), last.id)
        next_ = paging.encode(place, listing)
    results = [exception_answers.dead_letter(project_id, each) for each in page.rows]
    return list_answer(request, results, next_=next_, previous=None)


@route(router, "GET", f"{_LETTERS}/stats")
async def count_exception_dead_letters(
    caller: TenantOperator, ctx: Ctx, query: Annotated[TenantQuery, Query()]
) -> Response:
    """How many dead letters are open, by stage and by error code."""
    del query
    counts = await ctx.incidents.read(caller.project_id, lambda reads: reads.dead_letter_counts())
    total = sum(sum(of_stage.values()) for of_stage in counts.values())
    return json_answer({"tenantId": caller.project_id, "open": total, "stages": counts})


@route(router, "GET", _LETTER, response_model=DeadLetterDetailAnswer)
async def show_exception_dead_letter(
    task_id: str, caller: TenantOperator, ctx: Ctx, query: Annotated[TenantQuery, Query()]
) -> Response:
    """One dead letter with what its stage was given, and the event that asked for it."""
    del query
    return await _show(ctx, caller, task_id)


@route(router, "POST", f"{_LETTER}/replay", **_DECIDE)
async def replay_exception_dead_letter(
    request: Request,
    task_id: str,
    caller: TenantOperator,
    ctx: Ctx,
    query: Annotated[TenantQuery, Query()],
) -> Response:
    """Have the task done again by the stage that gave up, and no other: `{"reason": "…"}`."""
    del query
    body = await read_body(request, DecisionBody)
    incident = await ctx.incidents.decide(
        caller.project_id,
        lambda session, now: decisions.replay_dead_letter(
            *(session, caller.project_id, task_id),
            actor=caller.incident_actor,
            reason=body.reason,
            now=now,
        ),
    )
    return _decided(task_id, incident, "replayed")


@route(router, "POST", f"{_LETTER}/discard", **_DECIDE)
async def discard_exception_dead_letter(
    request: Request,
    task_id: str,
    caller: TenantOperator,
    ctx: Ctx,
    query: Annotated[TenantQuery, Query()],
) -> Response:
    """Have the task left out for good; the exception is a person's from then on:
    `{"reason": "…"}`."""
    del query
    body = await read_body(request, DecisionBody)
    incident = await ctx.incidents.decide(
        caller.project_id,
        lambda session, now: decisions.discard_dead_letter(
            *(session, caller.project_id, task_id),
            actor=caller.incident_actor,
            reason=body.reason,
            now=now,
        ),
    )
    return _decided(task_id, incident, "discarded")


@route(router, "GET", "/ops/sla/compliance")
async def show_compliance(
    caller: Seer, ctx: Ctx, query: Annotated[PeriodQuery, Query()]
) -> Response:
    """How exceptions stand to their deadlines: how many met them, missed them, or have time left.
    `compliance` is the share that met them of those that are over; null where none is."""
    since, until = query.times()
    counts = await ctx.incidents.read(
        caller.project_id, lambda reads: reads.deadlines(since, until)
    )
    met, missed = counts[Deadline.MET], counts[Deadline.EXPIRED]
    over = met + missed
    return json_answer(
        {
            **_period(caller, since, until),
            "deadlines": {state.value: count for state, count in counts.items()},
            "compliance": met / over if over else None,
        }
    )


@route(router, "GET", "/ops/sla/breaches", response_model=ExceptionsAnswer)
async def list_breaches(
    request: Request, caller: Seer, ctx: Ctx, query: Annotated[DeadlinesQuery, Query()]
) -> Response:
    """Exceptions whose deadline has passed, newest first."""
    return await _list(request, ctx, caller, query, Deadline.EXPIRED)


@route(router, "GET", "/ops/sla/at-risk", response_model=ExceptionsAnswer)
async def list_at_risk(
    request: Request, caller: Seer, ctx: Ctx, query: Annotated[DeadlinesQuery, Query()]
) -> Response:
    """Exceptions that have little time left, newest first."""
    return await _list(request, ctx, caller, query, Deadline.IMMINENT)


@route(router, "GET", "/ops/sla/resolution-time")
async def show_resolution_time(
    caller: Seer, ctx: Ctx, query: Annotated[PeriodQuery, Query()]
) -> Response:
    """What came of the exceptions, how long the resolved ones took in seconds (of the newest
    10,000), and the share of those that no person had a part in."""
    since, until = query.times()
    rates, durations = await ctx.incidents.read(
        caller.project_id,
        lambda reads: (
            reads.rates(since, until),
            reads.durations(since, until, most=_MOST_DURATIONS),
        ),
    )
    return json_answer(
        {
            **_period(caller, since, until),
            "received": rates.received,
            "resolved": rates.resolved,
            "escalated": rates.escalated,
            "blocked": rates.blocked,
            "failed": rates.failed,
            "automaticResolution": rates.automatic_resolution,
            "secondsToResolution": _distribution([each.to_resolution for each in durations]),
            "secondsToFirstAction": _distribution(
                [each.to_first_action for each in durations if each.to_first_action is not None]
            ),
        }
    )


@route(router, "GET", "/ops/workers/health", dependencies=[NO_PARAMETERS])
async def show_workers(_: DeploymentOperator, ctx: Ctx) -> Response:
    """Each stage of the chain: what waits for it, since when, what is under way, and what it gave
    up, of all tenants together."""
    chain, now = await ctx.incidents.chain()
    return json_answer(
        {
            "healthy": chain.keeps_up(now),
            "workers": {name: _stage(stage, now) for name, stage in chain.stages.items()},
            "untold": chain.untold,
            "untoldSince": shapes.moment(chain.untold_since),
        }
    )


async def _show(ctx: Context, caller: Tenant, task_id: str) -> Response:
    def ask(reads: IncidentReads) -> tuple[WholeDeadLetter, IncidentEvent | None]:
        found = reads.dead_letter(task_id)
        return found, reads.event(found.incident_id, found.sequence)

    letter, event = await ctx.incidents.read(caller.project_id, ask)
    return json_answer(exception_answers.dead_letter_detail(caller.project_id, letter, event))


async def _list(
    request: Request, ctx: Context, caller: Tenant, query: DeadlinesQuery, deadline: Deadline
) -> Response:
    listing = paging.Listing("exception_deadlines", caller.project_id, {"deadline": deadline})
    before = None
    if query.cursor:
        before = paging.decode(query.cursor, listing, key_is_valid=is_id).key
    page = await ctx.incidents.read(
        caller.project_id,
        lambda reads: reads.incidents(Filters(deadline=deadline), limit=query.limit, before=before),
    )
    results = [exception_answers.summary(caller.project_id, each) for each in page.rows]
    next_ = paging.encode(paging.Cursor(0, page.rows[-1].id), listing) if page.more else None
    return list_answer(request, results, next_=next_, previous=None)


def _decided(task_id: str, incident: Incident, state: str) -> Response:
    return json_answer(
        {
            "letterId": task_id,
            "tenantId": incident.project_id,
            "exceptionId": incident.id,
            "state": state,
            "status": incident.status,
        }
    )


def _stage(stage: StageHealth, now: datetime) -> shapes.Json:
    behind = stage.seconds_behind(now)
    return {
        "healthy": behind < LATE_SECONDS,
        "due": stage.due,
        "delayed": stage.delayed,
        "leased": stage.leased,
        "lost": stage.lost,
        "dead": stage.dead,
        "secondsBehind": behind,
    }


def _period(caller: Tenant, since: datetime, until: datetime) -> shapes.Json:
    return {
        "tenantId": caller.project_id,
        "from": shapes.moment(since),
        "to": shapes.moment(until),
    }


def _distribution(values: Sequence[float]) -> shapes.Json:
    """The mean and two quantiles; null where there are none."""
    if len(values) < 2:
        only = values[0] if values else None
        return {"count": len(values), "mean": only, "p50": only, "p95": only}
    cuts = statistics.quantiles(values, n=20, method="inclusive")
    return {
        "count": len(values),
        "mean": statistics.fmean(values),
        "p50": cuts[9],
        "p95": cuts[18],
    }


def _is_task_id(text: str) -> bool:
    try:
        parse_task_id(text)
    except ValueError:
        return False
    return True
