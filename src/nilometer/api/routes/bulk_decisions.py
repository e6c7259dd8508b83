"""Many dead letters of exceptions decided about at once, by what they have in common."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import ConfigDict, Field

from nilometer.api import shapes
from nilometer.api.answers import json_answer
from nilometer.api.auth import BEARER
from nilometer.api.bodies import Body, Given, documented, read_body
from nilometer.api.exception_answers import DecidedLettersAnswer
from nilometer.api.routes.incident_operations import TenantQuery
from nilometer.api.routing import ERRORS, route
from nilometer.api.services import Context, Ctx
from nilometer.api.tenancy import Tenant, TenantOperator
from nilometer.domain import clock
from nilometer.incidents import bulk_decisions, decisions
from nilometer.incidents.bulk_decisions import Decided, Letters, Verb
from nilometer.query import times

router = APIRouter(tags=["exception operations"], dependencies=[BEARER], responses=ERRORS)

_NAME = 200


class BulkBody(Body):
    """Which open dead letters, the oldest first, and why it is decided so."""

    model_config = ConfigDict(title="Many dead letters", populate_by_name=True)

    reason: str = Field(
        min_length=1,
        max_length=decisions.MAX_REASON,
        description="Kept with the key's id in the history of each exception.",
    )
    stage: Given[str] = Field(None, max_length=_NAME, description="That gave up, such as `tool`.")
    code: Given[str] = Field(None, max_length=_NAME, description="Of the error: `http_503`.")
    exception_type: Given[str] = Field(None, max_length=_NAME, description="Exactly this type.")
    from_: Given[str] = Field(None, alias="from", description="Given up at this time or later.")
    before: Given[str] = Field(
        None,
        description="Given up before this time; now by default. The answer says what it was: give "
        "it again with what is left, so that what dies again meanwhile is not among it.",
    )
    limit: int = Field(100, ge=1, le=bulk_decisions.MOST, description="So many at most.")
    dry_run: bool = Field(False, description="Tell which they would be, and change nothing.")

    def letters(self, now: datetime) -> Letters:
        """Raises InvalidInput for a time that is none."""
        return Letters(
            before=_time(self.before, "before") or now,
            since=_time(self.from_, "from"),
            stage=self.stage,
            code=self.code,
            exception_type=self.exception_type,
        )


_DECIDE: dict[str, Any] = {
    "response_model": DecidedLettersAnswer,
    "openapi_extra": documented(BulkBody),
}


@route(router, "POST", "/ops/dlq/replay", **_DECIDE)
async def replay_exception_dead_letters(
    request: Request, caller: TenantOperator, ctx: Ctx, query: Annotated[TenantQuery, Query()]
) -> Response:
    """Have many tasks done again, each by the stage that gave up."""
    del query
    return await _decide(request, caller, ctx, Verb.REPLAY)


@route(router, "POST", "/ops/dlq/discard", **_DECIDE)
async def discard_exception_dead_letters(
    request: Request, caller: TenantOperator, ctx: Ctx, query: Annotated[TenantQuery, Query()]
) -> Response:
    """Have many tasks left out for good; their exceptions are a person's from then on."""
    del query
    return await _decide(request, caller, ctx, Verb.DISCARD)


async def _decide(request: Request, caller: Tenant, ctx: Context, verb: Verb) -> Response:
    body = await read_body(request, BulkBody)
    decisions.check_reason(body.reason)
    which = body.letters(clock.now())
    if body.dry_run:
        decided = await ctx.incidents.read(
            caller.project_id, lambda reads: reads.letters(which, most=body.limit)
        )
    else:
        decided = await ctx.incidents.decide(
            caller.project_id,
            lambda session, now: bulk_decisions.decide(
                *(session, caller.project_id, verb, which),
                most=body.limit,
                actor=caller.incident_actor,
                reason=body.reason,
                now=now,
            ),
        )
    return json_answer(_told(caller, verb, which, decided, dry_run=body.dry_run))


def _told(
    caller: Tenant, verb: Verb, which: Letters, decided: Decided, *, dry_run: bool
) -> shapes.Json:
    return {
        "tenantId": caller.project_id,
        "state": "replayed" if verb is Verb.REPLAY else "discarded",
        "dryRun": dry_run,
        "decided": len(decided.letter_ids),
        "left": decided.left,
        "before": shapes.moment(which.before),
        "letterIds": decided.letter_ids,
    }


def _time(text: str | None, attr: str) -> datetime | None:
    return None if text is None else clock.from_micros(times.parse(text, attr=attr))
