"""Passes over what is stored: price calls again, map events again."""

from __future__ import annotations

from decimal import Decimal

from fastapi import Request, Response
from pydantic import Field

from nilometer.api import shapes
from nilometer.api.answers import json_answer
from nilometer.api.auth import Caller, ProjectAdmin, Reader
from nilometer.api.bodies import Body, documented, read_body
from nilometer.api.routing import NO_PARAMETERS, private_router, route
from nilometer.api.services import Context, Ctx
from nilometer.domain import clock
from nilometer.pipeline.rewriting.jobs import Kind, Rewrite, Rewrites
from nilometer.pricing.files import moment

router = private_router("rewrites")

_PATH = "/projects/{project_id}/rewrites"
_ONE = f"{_PATH}/{{rewrite_id}}"
# What the parts of a finding's label are, by the kind of pass.
_LABELS = {Kind.REPRICE: ("provider", "model"), Kind.REMAP: ("table", "column")}


class RewriteBody(Body):
    """Which pass, over which time; `from` and `to` are of the events' own time."""

    kind: Kind
    since: str = Field(alias="from", description="A date, or a time with a zone.")
    until: str | None = Field(None, alias="to", description="Not included; now by default.")
    dry_run: bool = Field(False, description="Only say what would change.")


@route(router, "GET", _PATH, dependencies=[NO_PARAMETERS])
async def list_rewrites(caller: Reader, ctx: Ctx) -> Response:
    """The project's last passes, newest first, without their findings."""
    own = _own(ctx, caller)
    found = await ctx.database_workers.run(lambda: own.list(caller.project_id))
    return json_answer({"results": [_brief(each) for each in found]})


@route(
    router,
    "POST",
    _PATH,
    status_code=202,
    openapi_extra=documented(RewriteBody),
    dependencies=[NO_PARAMETERS],
)
async def add_rewrite(request: Request, caller: ProjectAdmin, ctx: Ctx) -> Response:
    """Ask for a pass. It runs by itself; read how far it is. One of a project at a time (409)."""
    body = await read_body(request, RewriteBody)
    until = clock.now() if body.until is None else moment(body.until, "to")
    since = moment(body.since, "from")
    own = _own(ctx, caller)
    added = await ctx.database_workers.run(
        lambda: own.add(
            caller.project_id, body.kind, since=since, until=until, dry_run=body.dry_run
        )
    )
    ctx.services.wake_rewrites()
    return json_answer(_whole(added), 202)


@route(router, "GET", _ONE, dependencies=[NO_PARAMETERS])
async def show_rewrite(rewrite_id: str, caller: Reader, ctx: Ctx) -> Response:
    """One pass: how far it is and what it found."""
    own = _own(ctx, caller)
    found = await ctx.database_workers.run(lambda: own.get(caller.project_id, rewrite_id))
    return json_answer(_whole(found))


@route(router, "DELETE", _ONE, dependencies=[NO_PARAMETERS])
async def cancel_rewrite(rewrite_id: str, caller: ProjectAdmin, ctx: Ctx) -> Response:
    """End a pass after the rows at hand. What it changed stays changed."""
    own = _own(ctx, caller)
    found = await ctx.database_workers.run(lambda: own.cancel(caller.project_id, rewrite_id))
    return json_answer(_whole(found))


def _own(ctx: Context, caller: Caller) -> Rewrites:
    return ctx.services.rewrites.acting_as(caller.authority)


def _brief(rewrite: Rewrite) -> shapes.Json:
    return {
        "id": rewrite.id,
        "kind": rewrite.kind,
        "from": shapes.moment(rewrite.since),
        "to": shapes.moment(rewrite.until),
        "dry_run": rewrite.dry_run,
        "state": rewrite.state,
        "total": rewrite.total,
        "seen": rewrite.seen,
        "changed": rewrite.changed,
        "skipped": rewrite.skipped,
        "error": rewrite.error,
        "actor": rewrite.actor,
        "created_at": shapes.moment(rewrite.created_at),
        "finished_at": shapes.moment(rewrite.finished_at),
    }


def _whole(rewrite: Rewrite) -> shapes.Json:
    names = _LABELS[rewrite.kind]
    findings = [
        {
            **dict(zip(names, label, strict=True)),
            **{
                name: format(amount, "f") if isinstance(amount, Decimal) else amount
                for name, amount in named.items()
            },
        }
        for label, named in rewrite.findings.items()
    ]
    return {**_brief(rewrite), "findings": findings}
