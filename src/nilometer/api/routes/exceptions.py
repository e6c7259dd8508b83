"""Exceptions: raised, and read with everything that happened to them (docs/exceptions.md)."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from nilometer.api import exception_answers, exception_bodies, exception_playbooks, shapes
from nilometer.api.answers import PRIVATE, json_answer, list_answer
from nilometer.api.auth import BEARER
from nilometer.api.bodies import json_schema, read_bytes
from nilometer.api.exception_answers import (
    AcceptedAnswer,
    AcceptedManyAnswer,
    EventsAnswer,
    ExceptionAnswer,
    ExceptionsAnswer,
    PlaybookAnswer,
)
from nilometer.api.exception_bodies import MAX_EXCEPTIONS, MAX_NAME, Raised
from nilometer.api.routes.events import Text
from nilometer.api.routing import ERRORS, NO_PARAMETERS, QueryModel, direct, route
from nilometer.api.services import Context, Ctx, context
from nilometer.api.tenancy import TENANT, Raiser, Seer, Tenant, raiser
from nilometer.domain import clock
from nilometer.errors import InvalidInput
from nilometer.incidents.incident import Accepted, NewException, Severity, Status
from nilometer.incidents.raising import Raise
from nilometer.incidents.views import Filters
from nilometer.observability import tracing
from nilometer.query import paging, times

router = APIRouter(tags=["exceptions"], dependencies=[BEARER], responses=ERRORS)

LIST = "/exceptions/{tenant}"
ONE = f"{LIST}/{{exception_id}}"
_SHOWN_EVENTS = 500
# A body larger than this is read in a thread: it takes longer than a turn of the loop should.
_LARGE = 64 * 1024
_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
)
_ID = re.compile(r"[0-9a-f-]{36}")


class ExceptionBody(BaseModel):
    """What is raised. Names may be in camel case too."""

    model_config = ConfigDict(title="Exception")

    exception_type: str = Field(max_length=MAX_NAME, examples=["SettlementFailed"])
    source_system: str = Field(max_length=MAX_NAME, examples=["billing"])
    severity: Severity | None = Field(None, description="What the sender thinks; triage judges.")
    occurred_at: datetime | None = Field(
        None, description="RFC 3339 with a zone; the moment of acceptance by default."
    )
    domain: str | None = Field(None, max_length=MAX_NAME)
    payload: dict[str, Any] = Field(default_factory=dict, description="At most 256 KiB.")


class ExceptionsBody(BaseModel):
    """Many at once, each for itself: one that cannot be accepted keeps no other back."""

    exceptions: list[ExceptionBody] = Field(
        min_length=1, max_length=MAX_EXCEPTIONS, description="In place of one exception."
    )


class ExceptionsQuery(QueryModel):
    """Which exceptions."""

    status: Status | None = None
    severity: Severity | None = None
    type: Text | None = Field(None, description="Exactly this exception type.")
    source: Text | None = Field(None, description="Exactly this source system.")
    owner: Text | None = None
    from_: Text | None = Field(None, alias="from", description="Accepted at this time or later.")
    to: Text | None = Field(None, description="Accepted before this time.")
    limit: int = Field(paging.DEFAULT_LIMIT, ge=1, le=paging.MAX_LIMIT)
    cursor: Text | None = Field(None, description="From a page's `next`.")

    def filters(self) -> Filters:
        """Raises InvalidInput for a time that is none."""
        return Filters(
            status=self.status,
            severity=self.severity,
            exception_type=self.type,
            source_system=self.source,
            owner=self.owner,
            since=_time(self.from_, "from"),
            until=_time(self.to, "to"),
        )

    def listing(self, project_id: int) -> paging.Listing:
        """What a cursor belongs to."""
        given = self.model_dump(mode="json", exclude={"cursor", "limit", "personal_api_key"})
        return paging.Listing("exceptions", project_id, given)


class EventsQuery(QueryModel):
    """Which events of an exception."""

    after: int = Field(0, ge=0, lt=2**31, description="Only those of a later `sequence`.")
    limit: int = Field(paging.DEFAULT_LIMIT, ge=1, le=paging.MAX_LIMIT)
    cursor: Text | None = Field(None, description="From a page's `next`.")


_RAISE: dict[str, Any] = {
    "parameters": [
        {
            "name": "Idempotency-Key",
            "in": "header",
            "required": False,
            "description": "The same key and body again raise nothing, and get the same answer.",
            "schema": {"type": "string", "maxLength": exception_bodies.MAX_IDEMPOTENCY_KEY},
        }
    ],
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"anyOf": [json_schema(ExceptionBody), json_schema(ExceptionsBody)]}
            }
        },
    },
}


async def _raise_directly(request: Request) -> Response:
    """As `raise_in_tenant`, for a request without parameters."""
    ctx = context(request)
    return await _raise(request, await raiser(request, ctx), ctx)


_RAISED: dict[str, Any] = {
    "status_code": 202,
    "route_class_override": direct(_raise_directly),
    "response_model": AcceptedAnswer | AcceptedManyAnswer,
    "response_description": "Durable, and readable under its id.",
    "dependencies": [NO_PARAMETERS],
}


@route(router, "POST", "/exceptions", openapi_extra=_RAISE, **_RAISED)
async def raise_own(request: Request, caller: Raiser, ctx: Ctx) -> Response:
    """Raise one exception, or many, in the project of the key. Takes a project key, or a personal
    key with the scope `capture`."""
    return await _raise(request, caller, ctx)


@route(
    router,
    "POST",
    LIST,
    openapi_extra={**_RAISE, "parameters": TENANT["parameters"] + _RAISE["parameters"]},
    **_RAISED,
)
async def raise_in_tenant(request: Request, caller: Raiser, ctx: Ctx) -> Response:
    """Raise one exception, or many. Takes a project key, or a personal key with the scope
    `capture`."""
    return await _raise(request, caller, ctx)


@route(router, "GET", LIST, response_model=ExceptionsAnswer, openapi_extra=TENANT)
async def list_exceptions(
    request: Request, caller: Seer, ctx: Ctx, query: Annotated[ExceptionsQuery, Query()]
) -> Response:
    """Exceptions, newest first, without what was sent."""
    filters, listing = query.filters(), query.listing(caller.project_id)
    before = None
    if query.cursor:
        before = paging.decode(query.cursor, listing, key_is_valid=is_id).key
    page = await ctx.incidents.read(
        caller.project_id,
        lambda reads: reads.incidents(filters, limit=query.limit, before=before),
    )
    results = [exception_answers.summary(caller.project_id, each) for each in page.rows]
    next_ = paging.encode(paging.Cursor(0, page.rows[-1].id), listing) if page.more else None
    return list_answer(request, results, next_=next_, previous=None)


@route(
    router,
    "GET",
    ONE,
    response_model=ExceptionAnswer,
    openapi_extra=TENANT,
    dependencies=[NO_PARAMETERS],
)
async def show_exception(request: Request, exception_id: str, caller: Seer, ctx: Ctx) -> Response:
    """One exception and what happened to it. It is there as soon as it was accepted."""
    project_id = caller.project_id
    withheld, found, events = await ctx.incidents.read(
        project_id,
        lambda reads: (
            reads.withholds_payload(exception_id),
            reads.incident(exception_id),
            reads.events(exception_id, after=0, limit=_SHOWN_EVENTS + 1),
        ),
    )
    shown, rest = events[:_SHOWN_EVENTS], events[_SHOWN_EVENTS:]
    next_ = None
    if rest:
        cursor = paging.encode(
            paging.Cursor(shown[-1].sequence, ""), _events_listing(project_id, exception_id)
        )
        next_ = f"{request.url.path.rstrip('/')}/events/?cursor={cursor}"
    answer = exception_answers.incident(found, shown, next_events=next_, withheld=withheld)
    return json_answer(answer)


@route(router, "GET", f"{ONE}/events", response_model=EventsAnswer, openapi_extra=TENANT)
async def list_events(
    request: Request,
    exception_id: str,
    caller: Seer,
    ctx: Ctx,
    query: Annotated[EventsQuery, Query()],
) -> Response:
    """What happened to an exception, in order: who did what, why, and caused by which event."""
    listing = _events_listing(caller.project_id, exception_id, query.after)
    after = query.after
    if query.cursor:
        after = paging.decode(query.cursor, listing, key_is_valid=lambda key: not key).micros
    events = await ctx.incidents.read(
        caller.project_id,
        lambda reads: (
            reads.require(exception_id),
            reads.events(exception_id, after=after, limit=query.limit + 1),
        )[1],
    )
    shown, more = events[: query.limit], len(events) > query.limit
    next_ = paging.encode(paging.Cursor(shown[-1].sequence, ""), listing) if more else None
    return list_answer(
        request, [exception_answers.event(each) for each in shown], next_=next_, previous=None
    )


@route(router, "GET", f"{ONE}/trace", openapi_extra=TENANT, dependencies=[NO_PARAMETERS])
async def show_trace(exception_id: str, caller: Seer, ctx: Ctx) -> Response:
    """How many events of which types an exception has, the first and the last, and how long it
    took between them."""
    trace = await ctx.incidents.read(caller.project_id, lambda reads: reads.trace(exception_id))
    return json_answer(
        {
            "exceptionId": exception_id,
            "tenantId": caller.project_id,
            "correlationId": exception_id,
            "eventCount": sum(trace.types.values()),
            "eventTypes": trace.types,
            "firstEventAt": shapes.moment(trace.first_at),
            "lastEventAt": shapes.moment(trace.last_at),
            "durationSeconds": (trace.last_at - trace.first_at).total_seconds(),
        }
    )


@route(
    router,
    "GET",
    f"{ONE}/playbook",
    response_model=PlaybookAnswer,
    openapi_extra=TENANT,
    dependencies=[NO_PARAMETERS],
)
async def show_playbook(exception_id: str, caller: Seer, ctx: Ctx) -> Response:
    """The playbook that handles an exception, where it is in it, and what its steps came to."""
    found = await ctx.incidents.read(caller.project_id, lambda reads: reads.incident(exception_id))
    playbook = await exception_playbooks.playbook_of(ctx, caller, found)
    return json_answer(exception_playbooks.shown(found, playbook))


def is_id(text: str) -> bool:
    """Whether a text can be an id of this room."""
    return _ID.fullmatch(text) is not None


async def _raise(request: Request, caller: Tenant, ctx: Context) -> Response:
    key = exception_bodies.idempotency_key(request.headers.getlist("idempotency-key"))
    body = await read_bytes(request)
    if len(body) > _LARGE:
        raised = await ctx.database_workers.run(lambda: exception_bodies.read(body))
    else:
        raised = exception_bodies.read(body)
    wanted = raised.accepted
    if not wanted:
        return _none_accepted(raised)
    told = {"nilometer.project.id": caller.project_id, "nilometer.exceptions": len(wanted)}
    given = request.headers.get("traceparent", "")
    traceparent = given if _TRACEPARENT.fullmatch(given) else None
    with tracing.started("POST /exceptions", traceparent, tracing.Kind.SERVER, told) as span:
        accepted = await ctx.raising.accepted(
            Raise(
                caller.project_id,
                wanted,
                caller.incident_actor,
                idempotency_key=key,
                traceparent=span.traceparent,
                size=len(body),
            )
        )
    if raised.many:
        return json_answer(_many(raised, accepted), 202)
    return _one(caller.project_id, accepted[0])


def _one(project_id: int, accepted: Accepted) -> Response:
    location = f"/exceptions/{project_id}/{accepted.exception_id}/"
    content = {"exceptionId": accepted.exception_id, "status": accepted.status}
    headers = {**PRIVATE, "Location": location}
    return Response(orjson.dumps(content), 202, headers=headers, media_type="application/json")


def _many(raised: Raised, accepted: list[Accepted]) -> shapes.Json:
    ids = iter(accepted)
    results = [
        {"exceptionId": next(ids).exception_id, "status": "accepted"}
        if isinstance(each, NewException)
        else _rejected(each)
        for each in raised.exceptions
    ]
    rejected = len(raised.exceptions) - len(accepted)
    return {
        "status": "partial" if rejected else "accepted",
        "accepted": len(accepted),
        "rejected": rejected,
        "results": results,
    }


def _rejected(error: InvalidInput) -> shapes.Json:
    said = {"type": "validation_error", "code": error.code, "detail": error.detail}
    return {"status": "rejected", "error": {**said, "attr": error.attr}}


def _none_accepted(raised: Raised) -> Response:
    """400 as every other, with what is wrong with each."""
    results = [_rejected(each) for each in raised.exceptions if isinstance(each, InvalidInput)]
    detail = "None of the exceptions can be accepted; `results` says why."
    error = {"type": "validation_error", "code": "none_accepted", "detail": detail}
    return json_answer({**error, "attr": "exceptions", "results": results}, 400)


def _events_listing(project_id: int, exception_id: str, after: int = 0) -> paging.Listing:
    filters = {"exception": exception_id, "after": after}
    return paging.Listing("exception_events", project_id, filters)


def _time(text: str | None, attr: str) -> datetime | None:
    return None if text is None else clock.from_micros(times.parse(text, attr=attr))
