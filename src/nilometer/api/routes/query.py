"""SQL over a project: the `query` endpoint of the capture contract, section 6, and exports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from typing import Annotated, Any, Literal

import anyio
import anyio.to_thread
import orjson
from fastapi import Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from nilometer.api.answers import PRIVATE, json_answer
from nilometer.api.auth import Reader
from nilometer.api.bodies import Body, documented, read_body
from nilometer.api.exports import Export, Pieces, while_connected
from nilometer.api.routing import QueryModel, private_router, route
from nilometer.api.services import Context, Ctx
from nilometer.errors import InvalidInput
from nilometer.query.sql.queries import Answer, ExportFormat

router = private_router("query")

MOST_EXPORT_SECONDS = 60
"""For a whole export: the query, and its client's reading of it."""

_MEDIA_TYPES = {
    ExportFormat.JSONL: "application/x-ndjson",
    ExportFormat.CSV: "text/csv; charset=utf-8",
    ExportFormat.ARROW: "application/vnd.apache.arrow.stream",
    ExportFormat.PARQUET: "application/vnd.apache.parquet",
}


class HogQLQuery(BaseModel):
    """One SELECT. `values` are those of its parameters, `{name:Type}`."""

    model_config = ConfigDict(extra="ignore")

    kind: Literal["HogQLQuery"] = "HogQLQuery"
    query: str = Field(description="One SELECT; docs/sql.md has its tables, and 20 examples.")
    values: dict[str, Any] = Field(default_factory=dict)


class QueryBody(Body):
    """A query, in the form of the contract. What steers a cache or a queue has no effect here: the
    answer is always there at once, and fresh."""

    model_config = ConfigDict(extra="ignore")

    query: HogQLQuery
    filters_override: dict[str, Any] | None = None
    variables_override: dict[str, Any] | None = None


class QueryAnswer(BaseModel):
    """The rows of a query."""

    columns: list[str]
    results: list[list[Any]]
    types: list[tuple[str, str]] = Field(description="Name and ClickHouse type of each column.")
    hasMore: bool = Field(description="Whether there are rows after these.")  # noqa: N815
    limit: int
    offset: int
    hogql: str = Field(description="The query as it was understood.")
    timings: list[dict[str, Any]] = Field(description="Seconds (`t`) by step (`k`).")
    error: str | None = None
    is_cached: bool = False


class QueryParameters(QueryModel):
    """How the answer is written."""

    format: ExportFormat | None = Field(
        None, description="All rows as a file, streamed, in place of a JSON answer."
    )


@route(
    router,
    "POST",
    "/projects/{project_id}/query",
    response_model=QueryAnswer,
    openapi_extra=documented(QueryBody),
)
@route(
    router,
    "POST",
    "/environments/{project_id}/query",
    response_model=QueryAnswer,
    openapi_extra=documented(QueryBody),
)
async def run_query(
    request: Request, caller: Reader, ctx: Ctx, parameters: Annotated[QueryParameters, Query()]
) -> Response:
    """Run one SELECT on the project: 100 rows, or up to 50,000 with LIMIT."""
    body = await read_body(request, QueryBody)
    if body.filters_override or body.variables_override:
        raise InvalidInput(
            "Filters and variables cannot be overridden here; write them into the query.",
            attr="filters_override" if body.filters_override else "variables_override",
        )
    query = body.query
    if parameters.format is not None:
        return await _export(request, ctx, caller.project_id, query, parameters.format)
    project_id = caller.project_id
    answer = await while_connected(
        request.receive,
        ctx.sql_workers.run(project_id, lambda: ctx.sql.run(project_id, query.query, query.values)),
    )
    return json_answer(_answer_json(answer))


def _answer_json(answer: Answer) -> dict[str, Any]:
    return {
        "columns": answer.columns,
        "results": [orjson.Fragment(row) for row in answer.rows],
        "types": answer.types,
        "hasMore": answer.has_more,
        "limit": answer.limit,
        "offset": answer.offset,
        "hogql": answer.canonical,
        "timings": [{"k": f"./{step}", "t": taken} for step, taken in answer.timings.items()],
        "error": None,
        "is_cached": False,
    }


async def _export(
    request: Request, ctx: Context, project_id: int, query: HogQLQuery, output: ExportFormat
) -> Response:
    """The file, piece by piece. The first piece is waited for, so that an error is an answer."""
    async with AsyncExitStack() as stack:
        place = stack.enter_async_context(ctx.exports.passed(project_id))
        await while_connected(request.receive, place)
        deadline = asyncio.get_running_loop().time() + MOST_EXPORT_SECONDS
        pieces = Pieces(ctx.sql.export(project_id, query.query, query.values, output=output))
        stack.push_async_callback(_close, pieces)
        first = await while_connected(request.receive, ctx.export_workers.run(pieces.next))
        held = stack.pop_all()
    return Export(
        _rest(ctx, pieces, first),
        held,
        deadline,
        media_type=_MEDIA_TYPES[output],
        headers={**PRIVATE, "Content-Disposition": f'attachment; filename="query.{output.value}"'},
    )


async def _rest(ctx: Context, pieces: Pieces, first: bytes | None) -> AsyncGenerator[bytes]:
    piece = first
    while piece is not None:
        yield piece
        piece = await ctx.export_workers.run(pieces.next)


async def _close(pieces: Pieces) -> None:
    """Also when the client has gone: the engine must not go on for nobody."""
    with anyio.CancelScope(shield=True):
        await anyio.to_thread.run_sync(pieces.close)
