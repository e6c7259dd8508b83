"""Approvals: what a person is asked to decide before the chain goes on. To see them needs the scope
`read`, to decide `approve`."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from nilometer.api import exception_answers
from nilometer.api.answers import json_answer, list_answer
from nilometer.api.auth import BEARER
from nilometer.api.bodies import Body, Given, documented, read_body
from nilometer.api.exception_answers import ApprovalAnswer, ApprovalsAnswer
from nilometer.api.routes.events import Text
from nilometer.api.routes.exceptions import is_id
from nilometer.api.routing import ERRORS, NO_PARAMETERS, QueryModel, route
from nilometer.api.services import Context, Ctx
from nilometer.api.tenancy import TENANT, Approver, Seer, Tenant
from nilometer.incidents import decisions
from nilometer.incidents.incident import ApprovalState
from nilometer.query import paging

router = APIRouter(tags=["approvals"], dependencies=[BEARER], responses=ERRORS)

_LIST = "/approvals/{tenant}"
_ONE = f"{_LIST}/{{approval_id}}"


class ApprovalsQuery(QueryModel):
    """Which approvals."""

    state: ApprovalState | None = None
    exception_id: Text | None = Field(None, description="Only those about this exception.")
    limit: int = Field(paging.DEFAULT_LIMIT, ge=1, le=paging.MAX_LIMIT)
    cursor: Text | None = Field(None, description="From a page's `next`.")


class DecisionBody(Body):
    """Why it is decided so."""

    note: Given[str] = Field(None, max_length=decisions.MAX_REASON)


_DECIDE: dict[str, Any] = {
    "response_model": ApprovalAnswer,
    "openapi_extra": {**TENANT, **documented(DecisionBody, required=False)},
    "dependencies": [NO_PARAMETERS],
}


@route(router, "GET", _LIST, response_model=ApprovalsAnswer, openapi_extra=TENANT)
async def list_approvals(
    request: Request, caller: Seer, ctx: Ctx, query: Annotated[ApprovalsQuery, Query()]
) -> Response:
    """Approvals that were asked for, newest first."""
    filters = {"state": query.state, "exception": query.exception_id}
    listing = paging.Listing("approvals", caller.project_id, filters)
    before = None
    if query.cursor:
        before = paging.decode(query.cursor, listing, key_is_valid=is_id).key
    page = await ctx.incidents.read(
        caller.project_id,
        lambda reads: reads.approvals(
            state=query.state, incident_id=query.exception_id, limit=query.limit, before=before
        ),
    )
    results = [exception_answers.approval(caller.project_id, each) for each in page.rows]
    next_ = paging.encode(paging.Cursor(0, page.rows[-1].id), listing) if page.more else None
    return list_answer(request, results, next_=next_, previous=None)


@route(
    router,
    "GET",
    _ONE,
    response_model=ApprovalAnswer,
    openapi_extra=TENANT,
    dependencies=[NO_PARAMETERS],
)
async def show_approval(approval_id: str, caller: Seer, ctx: Ctx) -> Response:
    """One approval: what is asked, by which rule, until when, and how it was decided."""
    return await _show(ctx, caller, approval_id)


@route(router, "POST", f"{_ONE}/approve", **_DECIDE)
async def approve(request: Request, approval_id: str, caller: Approver, ctx: Ctx) -> Response:
    """Approve: the chain goes on. 409 once it was decided or has expired; 403 for who raised the
    exception, where the rule keeps the two apart."""
    return await _decide(request, ctx, caller, approval_id, approve=True)


@route(router, "POST", f"{_ONE}/reject", **_DECIDE)
async def reject(request: Request, approval_id: str, caller: Approver, ctx: Ctx) -> Response:
    """Reject: the exception is blocked. 409 and 403 as for `approve`."""
    return await _decide(request, ctx, caller, approval_id, approve=False)


async def _decide(
    request: Request, ctx: Context, caller: Tenant, approval_id: str, *, approve: bool
) -> Response:
    body = await read_body(request, DecisionBody)
    await ctx.incidents.decide(
        caller.project_id,
        lambda session, now: decisions.decide_approval(
            *(session, caller.project_id, approval_id),
            approve=approve,
            actor=caller.incident_actor,
            note=body.note,
            now=now,
        ),
    )
    return await _show(ctx, caller, approval_id)


async def _show(ctx: Context, caller: Tenant, approval_id: str) -> Response:
    found = await ctx.incidents.read(caller.project_id, lambda reads: reads.approval(approval_id))
    return json_answer(exception_answers.approval(caller.project_id, found))
