"""Dead letters: listed, shown, replayed and discarded. All of it needs the scope `operate`, the
list too: a record may hold prompts, and its reason tells about them.

A project's are under its path. Those of no project that exists (an envelope that could not be read)
are beside the projects, for the operator of the deployment."""

from __future__ import annotations

import base64
from typing import Annotated, Any, cast

import orjson
from fastapi import Query, Request, Response
from pydantic import BaseModel, Field

from nilometer.api.answers import json_answer, list_answer
from nilometer.api.auth import DeploymentOperator, Operator
from nilometer.api.bodies import Body, documented, read_bytes
from nilometer.api.routes.events import Text
from nilometer.api.routing import NO_PARAMETERS, QueryModel, private_router, route
from nilometer.api.services import Context, Ctx
from nilometer.domain import clock
from nilometer.errors import InvalidInput
from nilometer.pipeline.dead_letters import UNOWNED, DeadLetter, DeadLetterSummary, Owner, State
from nilometer.query import paging, times

router = private_router("dead letters")

_MAX_BODY = 16 * 1024


class BytesAnswer(BaseModel):
    """Bytes as a text: `utf-8`, or `base64` when they are not UTF-8."""

    encoding: str
    data: str


class DeadLetterAnswer(BaseModel):
    """A record that a consumer gave up on."""

    id: str
    project_id: int
    uuid: str
    consumer: str
    reason: str = Field(description="A stable code.")
    detail: str
    attempts: int
    partition: int
    offset: int
    payload_size: int
    state: State
    created_at: str
    updated_at: str
    actor: str | None = Field(description="Who replayed or discarded it.")
    note: str | None = Field(description="Why it was discarded.")


class DeadLetterDetailAnswer(DeadLetterAnswer):
    """A dead letter with its record, as the log had it."""

    headers: BytesAnswer
    payload: BytesAnswer


class DeadLettersAnswer(BaseModel):
    """A page of dead letters, newest first. `next` is a path on this server."""

    next: str | None
    previous: None
    results: list[DeadLetterAnswer]


class DeadLettersQuery(QueryModel):
    """The filters of a list of dead letters."""

    state: State | None = None
    reason: Text | None = None
    limit: int = Field(paging.DEFAULT_LIMIT, ge=1, le=paging.MAX_LIMIT)
    cursor: Text | None = Field(None, description="From a page's `next`.")


class DiscardBody(Body):
    """Why a record is not wanted."""

    reason: str = Field(min_length=1, max_length=1000)


_DISCARD_BODY = documented(DiscardBody)
_PATH = "/projects/{project_id}/dead_letters"
_UNOWNED_PATH = "/dead_letters"


@route(router, "GET", _PATH, response_model=DeadLettersAnswer)
async def list_dead_letters(
    request: Request, caller: Operator, ctx: Ctx, query: Annotated[DeadLettersQuery, Query()]
) -> Response:
    """Dead letters, newest first, without their records."""
    return await _list(request, ctx, caller.project_id, query)


@route(
    router,
    "GET",
    f"{_PATH}/{{letter_id}}",
    response_model=DeadLetterDetailAnswer,
    dependencies=[NO_PARAMETERS],
)
async def show_dead_letter(letter_id: str, caller: Operator, ctx: Ctx) -> Response:
    """One dead letter with its record."""
    return await _show(ctx, caller.project_id, letter_id)


@route(
    router,
    "POST",
    f"{_PATH}/{{letter_id}}/replay",
    response_model=DeadLetterAnswer,
    dependencies=[NO_PARAMETERS],
)
async def replay_dead_letter(letter_id: str, caller: Operator, ctx: Ctx) -> Response:
    """Put the record into the log again. It keeps its uuid, so nothing is counted twice."""
    return await _replay(ctx, caller.project_id, letter_id, caller.actor)


@route(
    router,
    "POST",
    f"{_PATH}/{{letter_id}}/discard",
    response_model=DeadLetterAnswer,
    openapi_extra=_DISCARD_BODY,
    dependencies=[NO_PARAMETERS],
)
async def discard_dead_letter(
    request: Request, letter_id: str, caller: Operator, ctx: Ctx
) -> Response:
    """Decide that the record is not wanted: `{"reason": "…"}`. Who and why is kept."""
    return await _discard(request, ctx, caller.project_id, letter_id, caller.actor)


@route(router, "GET", _UNOWNED_PATH, response_model=DeadLettersAnswer)
async def list_unowned_dead_letters(
    request: Request, _: DeploymentOperator, ctx: Ctx, query: Annotated[DeadLettersQuery, Query()]
) -> Response:
    """Dead letters of no project that exists, newest first, without their records."""
    return await _list(request, ctx, UNOWNED, query)


@route(
    router,
    "GET",
    f"{_UNOWNED_PATH}/{{letter_id}}",
    response_model=DeadLetterDetailAnswer,
    dependencies=[NO_PARAMETERS],
)
async def show_unowned_dead_letter(letter_id: str, _: DeploymentOperator, ctx: Ctx) -> Response:
    """One dead letter of no project, with its record."""
    return await _show(ctx, UNOWNED, letter_id)


@route(
    router,
    "POST",
    f"{_UNOWNED_PATH}/{{letter_id}}/replay",
    response_model=DeadLetterAnswer,
    dependencies=[NO_PARAMETERS],
)
async def replay_unowned_dead_letter(
    letter_id: str, member: DeploymentOperator, ctx: Ctx
) -> Response:
    """Put a record of no project into the log again; one that no reader can read is refused."""
    return await _replay(ctx, UNOWNED, letter_id, member.actor)


@route(
    router,
    "POST",
    f"{_UNOWNED_PATH}/{{letter_id}}/discard",
    response_model=DeadLetterAnswer,
    openapi_extra=_DISCARD_BODY,
    dependencies=[NO_PARAMETERS],
)
async def discard_unowned_dead_letter(
    request: Request, letter_id: str, member: DeploymentOperator, ctx: Ctx
) -> Response:
    """Decide that a record of no project is not wanted: `{"reason": "…"}`."""
    return await _discard(request, ctx, UNOWNED, letter_id, member.actor)


async def _list(request: Request, ctx: Context, owner: Owner, query: DeadLettersQuery) -> Response:
    page = await ctx.database_workers.run(
        lambda: ctx.services.dead_letters.list(
            owner,
            state=query.state,
            reason=query.reason,
            limit=query.limit,
            cursor=query.cursor or None,
        )
    )
    results = [_summary_json(letter) for letter in page.items]
    return list_answer(request, results, next_=page.next, previous=None)


async def _show(ctx: Context, owner: Owner, letter_id: str) -> Response:
    letters = ctx.services.dead_letters
    letter = await ctx.database_workers.run(lambda: letters.get(owner, letter_id))
    return json_answer(_letter_json(letter))


async def _replay(ctx: Context, owner: Owner, letter_id: str, actor: str) -> Response:
    services = ctx.services
    letter = await ctx.database_workers.run(
        lambda: services.dead_letters.replay(owner, letter_id, actor=actor, log=services.log)
    )
    return json_answer(_summary_json(letter))


async def _discard(
    request: Request, ctx: Context, owner: Owner, letter_id: str, actor: str
) -> Response:
    reason = _reason(await read_bytes(request, limit=_MAX_BODY))
    letters = ctx.services.dead_letters
    letter = await ctx.database_workers.run(
        lambda: letters.discard(owner, letter_id, actor=actor, reason=reason)
    )
    return json_answer(_summary_json(letter))


def _reason(body: bytes) -> str:
    try:
        sent = orjson.loads(body)
    except orjson.JSONDecodeError:
        sent = None
    reason = cast("dict[str, Any]", sent).get("reason") if isinstance(sent, dict) else None
    if not isinstance(reason, str):
        raise InvalidInput('Send JSON that says why: {"reason": "…"}.', attr="reason")
    return reason


def _summary_json(letter: DeadLetterSummary) -> dict[str, Any]:
    return {
        "id": letter.id,
        "project_id": letter.project_id,
        "uuid": letter.uuid,
        "consumer": letter.consumer,
        "reason": letter.reason,
        "detail": letter.detail,
        "attempts": letter.attempts,
        "partition": letter.partition,
        "offset": letter.offset,
        "payload_size": letter.payload_size,
        "state": letter.state,
        "created_at": times.rfc3339(clock.to_micros(letter.created_at)),
        "updated_at": times.rfc3339(clock.to_micros(letter.updated_at)),
        "actor": letter.actor,
        "note": letter.note,
    }


def _letter_json(letter: DeadLetter) -> dict[str, Any]:
    return {
        **_summary_json(letter),
        "headers": _bytes_json(letter.headers),
        "payload": _bytes_json(letter.payload),
    }


def _bytes_json(data: bytes) -> dict[str, str]:
    try:
        return {"encoding": "utf-8", "data": data.decode()}
    except UnicodeDecodeError:
        return {"encoding": "base64", "data": base64.b64encode(data).decode()}
