"""What a person decides about an exception. All of it needs the scope `write`; who decided, and
why, is in the exception's history."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import Field

from nilometer.api import exception_answers
from nilometer.api.answers import json_answer
from nilometer.api.auth import BEARER
from nilometer.api.bodies import Body, Given, documented, read_body
from nilometer.api.exception_answers import AcceptedAnswer, ExceptionSummaryAnswer
from nilometer.api.exception_playbooks import step_named
from nilometer.api.routes.exceptions import ONE
from nilometer.api.routing import ERRORS, NO_PARAMETERS, route
from nilometer.api.services import Ctx
from nilometer.api.tenancy import TENANT, Writer
from nilometer.incidents import decisions
from nilometer.incidents.incident import Incident

router = APIRouter(tags=["exceptions"], dependencies=[BEARER], responses=ERRORS)


class StepOutcome(StrEnum):
    """What came of a step that a person did."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"


class ReasonBody(Body):
    """Why it is asked for."""

    reason: Given[str] = Field(None, max_length=decisions.MAX_REASON)


class ResolveBody(Body):
    """Why the exception is done."""

    reason: str = Field(min_length=1, max_length=decisions.MAX_REASON)


class CommentBody(Body):
    """What is to be said."""

    text: str = Field(min_length=1, max_length=decisions.MAX_COMMENT)


class OwnerBody(Body):
    """Whose it is to be."""

    owner: str | None = Field(max_length=200, description="Null for nobody's.")


class StepBody(Body):
    """What came of the step."""

    status: StepOutcome = StepOutcome.SUCCEEDED
    note: Given[str] = Field(None, max_length=decisions.MAX_REASON)


def _taking(kind: type[Body], *, required: bool) -> dict[str, Any]:
    return {
        "openapi_extra": {**TENANT, **documented(kind, required=required)},
        "dependencies": [NO_PARAMETERS],
    }


_LATER: dict[str, Any] = {"status_code": 202, "response_model": AcceptedAnswer}
_NOW: dict[str, Any] = {"response_model": ExceptionSummaryAnswer}


@route(router, "POST", f"{ONE}/reprocess", **_LATER, **_taking(ReasonBody, required=False))
async def reprocess(request: Request, exception_id: str, caller: Writer, ctx: Ctx) -> Response:
    """Have the whole chain done again. What still waits for the exception is dropped; 409 while
    the chain is at work on it."""
    body = await read_body(request, ReasonBody)
    return _accepted(
        await ctx.incidents.decide(
            caller.project_id,
            lambda session, now: decisions.reprocess(
                *(session, caller.project_id, exception_id),
                actor=caller.incident_actor,
                reason=body.reason,
                now=now,
            ),
        )
    )


@route(
    router, "POST", f"{ONE}/playbook/recalculate", **_LATER, **_taking(ReasonBody, required=False)
)
async def recalculate(request: Request, exception_id: str, caller: Writer, ctx: Ctx) -> Response:
    """Have the policy asked and a playbook chosen anew, for an exception that waits for a person,
    is blocked or escalated; else 409."""
    body = await read_body(request, ReasonBody)
    return _accepted(
        await ctx.incidents.decide(
            caller.project_id,
            lambda session, now: decisions.recalculate(
                *(session, caller.project_id, exception_id),
                actor=caller.incident_actor,
                reason=body.reason,
                now=now,
            ),
        )
    )


@route(
    router,
    "POST",
    f"{ONE}/playbook/steps/{{step}}/complete",
    **_NOW,
    **_taking(StepBody, required=False),
)
async def complete_step(
    request: Request, exception_id: str, step: str, caller: Writer, ctx: Ctx
) -> Response:
    """Say that the manual step which is waited for (its name, or its number from 1) was done, or
    that it cannot be; the playbook goes on from there. 409 for any other step."""
    body = await read_body(request, StepBody)
    name = await step_named(ctx, caller, exception_id, step)
    return _changed(
        await ctx.incidents.decide(
            caller.project_id,
            lambda session, now: decisions.complete_step(
                *(session, caller.project_id, exception_id, name),
                actor=caller.incident_actor,
                succeeded=body.status is StepOutcome.SUCCEEDED,
                note=body.note,
                now=now,
            ),
        )
    )


@route(router, "POST", f"{ONE}/resolve", **_NOW, **_taking(ResolveBody, required=True))
async def resolve(request: Request, exception_id: str, caller: Writer, ctx: Ctx) -> Response:
    """Say that an exception which waits for a person is done. 409 while the chain is at work."""
    body = await read_body(request, ResolveBody)
    return _changed(
        await ctx.incidents.decide(
            caller.project_id,
            lambda session, now: decisions.resolve(
                *(session, caller.project_id, exception_id),
                actor=caller.incident_actor,
                reason=body.reason,
                now=now,
            ),
        )
    )


@route(
    router,
    "POST",
    f"{ONE}/comments",
    status_code=201,
    **_NOW,
    **_taking(CommentBody, required=True),
)
async def add_comment(request: Request, exception_id: str, caller: Writer, ctx: Ctx) -> Response:
    """Add a comment to the exception's history."""
    body = await read_body(request, CommentBody)
    found = await ctx.incidents.decide(
        caller.project_id,
        lambda session, now: decisions.comment(
            *(session, caller.project_id, exception_id, body.text),
            actor=caller.incident_actor,
            now=now,
        ),
    )
    return _changed(found, 201)


@route(router, "PUT", f"{ONE}/owner", **_NOW, **_taking(OwnerBody, required=True))
async def set_owner(request: Request, exception_id: str, caller: Writer, ctx: Ctx) -> Response:
    """Say whose the exception is. The same again changes nothing."""
    body = await read_body(request, OwnerBody)
    return _changed(
        await ctx.incidents.decide(
            caller.project_id,
            lambda session, now: decisions.assign(
                *(session, caller.project_id, exception_id, body.owner),
                actor=caller.incident_actor,
                now=now,
            ),
        )
    )


def _accepted(incident: Incident) -> Response:
    return json_answer({"exceptionId": incident.id, "status": "accepted"}, 202)


def _changed(incident: Incident, status: int = 200) -> Response:
    return json_answer(exception_answers.summary(incident.project_id, incident), status)
