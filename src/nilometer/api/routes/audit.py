"""The audit log of an organization: who changed what, when and from where."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Request, Response
from pydantic import Field

from nilometer.api import shapes
from nilometer.api.answers import json_answer, page_link
from nilometer.api.auth import OrganizationAdmin
from nilometer.api.routes.organizations import CountedAnswer, acting
from nilometer.api.routing import QueryModel, private_router, route
from nilometer.api.services import Ctx

router = private_router("audit log")


class AuditQuery(QueryModel):
    """Which entries."""

    limit: int = Field(100, ge=1, le=500)
    before: int | None = Field(None, ge=1, le=2**63 - 1, description="From a page's `next`.")


@route(
    router,
    "GET",
    "/organizations/{organization_id}/audit_log",
    response_model=CountedAnswer,
)
async def list_audit_log(
    request: Request, member: OrganizationAdmin, ctx: Ctx, query: Annotated[AuditQuery, Query()]
) -> Response:
    """What was changed, newest first. Entries are only ever added; none holds a token."""
    audit = acting(ctx, member).audit
    page = await ctx.database_workers.run(
        lambda: audit.list(limit=query.limit, before=query.before)
    )
    following = page.next_before
    return json_answer(
        {
            "count": page.count,
            "next": None if following is None else page_link(request, before=following),
            "previous": None,
            "results": [shapes.audit_entry(entry) for entry in page.entries],
        }
    )
