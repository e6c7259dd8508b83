"""Traces: a list of summaries, and one as a tree."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any
from urllib.parse import unquote

from fastapi import Query, Request, Response
from pydantic import BaseModel, Field

from nilometer.api.answers import json_answer, list_answer
from nilometer.api.auth import Reader
from nilometer.api.routes.events import Text
from nilometer.api.routing import NO_PARAMETERS, QueryModel, private_router, route
from nilometer.api.services import Ctx
from nilometer.query import paging, times
from nilometer.query.costs import money
from nilometer.query.traces import Trace, TraceFilters, TraceTree
from nilometer.query.tree import Link, Node, walk

router = private_router("traces")

# JSON nests no deeper than this (parsers give up at a few hundred brackets): a deeper node stands
# beside its ancestor of this depth, after it, and its `depth` stays true.
MAX_NESTING = 64


class TraceAnswer(BaseModel):
    """One trace, summed up."""

    trace_id: str
    name: str | None
    start: str = Field(description="The time of its first event.")
    end: str = Field(description="The time of its last event.")
    duration: float = Field(
        description="Seconds: the greater of end - start and its longest event's latency."
    )
    event_count: int
    error_count: int
    models: list[str]
    call_count: int = Field(description="Calls to providers, each once.")
    input_tokens: int | None = Field(description="All input of its calls, cached or not.")
    output_tokens: int | None = Field(description="All output of its calls.")
    total_cost_usd: str | None = Field(
        description="Computed, of the calls that have a cost; exact."
    )
    reported_total_cost_usd: str | None = Field(description="As its calls report it.")
    unpriced_call_count: int = Field(description="Calls without a computed cost.")
    session_id: str | None
    distinct_id: str


class TracesAnswer(BaseModel):
    """A page of traces, the latest started first. The links are paths on this server."""

    next: str | None
    previous: str | None
    results: list[TraceAnswer]


class NodeAnswer(BaseModel):
    """One event of a trace in its place. The event itself, with its properties, is at
    `/api/projects/{project_id}/events/{uuid}/`."""

    uuid: str
    event: str
    timestamp: str
    span_id: str | None
    parent_id: str | None
    link: Link = Field(
        description="Why it stands here: `root`, `parent` (it names this parent), `trace` (below "
        "the trace's own event), `orphan` (its parent is not here) or `cycle`."
    )
    depth: int
    name: str | None
    model: str | None
    provider: str | None
    latency: float | None = Field(description="Seconds.")
    input_tokens: int | None
    output_tokens: int | None
    http_status: int | None
    is_error: bool
    error: str | None = Field(description="Its first 1,000 characters.")
    children: list[NodeAnswer]


class TraceTreeAnswer(TraceAnswer):
    """One trace: its summary, and its events, each exactly once."""

    truncated: bool = Field(description="It has more than the 5,000 events shown, the earliest.")
    tree: list[NodeAnswer]


class TracesQuery(QueryModel):
    """The filters of a list of traces: those that have an event of this user, session or name."""

    distinct_id: Text | None = None
    session_id: Text | None = None
    event: Text | None = None
    errors: bool = Field(False, description="Only traces with an error.")
    after: Text | None = Field(None, description="Started from this time on, included.")
    before: Text | None = Field(None, description="Started before this time.")
    limit: int = Field(paging.DEFAULT_LIMIT, ge=1, le=paging.MAX_LIMIT)
    cursor: Text | None = Field(None, description="From a page's `next` or `previous`.")

    def filters(self) -> TraceFilters:
        """The filters, times parsed. Raises InvalidInput."""
        return TraceFilters(
            distinct_id=self.distinct_id,
            session_id=self.session_id,
            event=self.event,
            errors=self.errors,
            after=None if self.after is None else times.parse(self.after, attr="after"),
            before=None if self.before is None else times.parse(self.before, attr="before"),
        )


@route(router, "GET", "/projects/{project_id}/traces", response_model=TracesAnswer)
async def list_traces(
    request: Request, caller: Reader, ctx: Ctx, query: Annotated[TracesQuery, Query()]
) -> Response:
    """Traces, the latest started first."""
    filters = query.filters()
    page = await ctx.store_workers.run(
        lambda: ctx.traces.list(
            caller.project_id, filters, limit=query.limit, cursor=query.cursor or None
        )
    )
    results = [trace_json(trace) for trace in page.rows]
    return list_answer(request, results, next_=page.next, previous=page.previous)


# The path convertor takes a slash at the end, and within the id, too.
@router.get(
    "/projects/{project_id}/traces/{trace_id:path}",
    response_model=TraceTreeAnswer,
    dependencies=[NO_PARAMETERS],
)
async def show_trace(request: Request, caller: Reader, ctx: Ctx) -> Response:
    """One trace as a tree. Percent-encode its id; a slash at the end of the path is not part of
    it, an encoded one (`%2F`) is."""
    trace_id = _trace_id(request)
    found = await ctx.store_workers.run(lambda: ctx.traces.get(caller.project_id, trace_id))
    return await asyncio.to_thread(lambda: json_answer(tree_json(found)))


def _trace_id(request: Request) -> str:
    """The id exactly as it was encoded; the decoded path no longer tells `%2F` from a slash."""
    raw: bytes = request.scope["raw_path"]
    return unquote(raw.decode("ascii").split("/traces/", 1)[1].removesuffix("/"))


def trace_json(trace: Trace) -> dict[str, Any]:
    """A summary for orjson."""
    return {
        "trace_id": trace.trace_id,
        "name": trace.name,
        "start": times.rfc3339(trace.start),
        "end": times.rfc3339(trace.end),
        "duration": trace.duration,
        "event_count": trace.events,
        "error_count": trace.errors,
        "models": trace.models,
        "call_count": trace.calls,
        "input_tokens": trace.input_tokens,
        "output_tokens": trace.output_tokens,
        "total_cost_usd": money(trace.total_cost),
        "reported_total_cost_usd": money(trace.reported_total_cost),
        "unpriced_call_count": trace.unpriced_calls,
        "session_id": trace.session_id,
        "distinct_id": trace.distinct_id,
    }


def tree_json(found: TraceTree) -> dict[str, Any]:
    """A trace with its tree for orjson."""
    return {
        **trace_json(found.trace),
        "truncated": found.truncated,
        "tree": nodes_json(found.tops),
    }


def nodes_json(tops: Sequence[Node]) -> list[dict[str, Any]]:
    """The nodes, nested up to MAX_NESTING, in the order that a reader sees."""
    shown: list[dict[str, Any]] = []
    lists: list[list[dict[str, Any]]] = [shown]  # the open list of each depth
    for node in walk(tops):
        depth = min(node.depth, MAX_NESTING)
        entry = _node_json(node)
        lists[depth].append(entry)
        del lists[depth + 1 :]
        lists.append(entry["children"])
    return shown


def _node_json(node: Node) -> dict[str, Any]:
    span = node.span
    return {
        "uuid": span.uuid,
        "event": span.event,
        "timestamp": times.rfc3339(span.timestamp),
        "span_id": span.span_id,
        "parent_id": span.parent_id,
        "link": node.link,
        "depth": node.depth,
        "name": span.name,
        "model": span.model,
        "provider": span.provider,
        "latency": span.latency,
        "input_tokens": span.input_tokens,
        "output_tokens": span.output_tokens,
        "http_status": span.http_status,
        "is_error": span.is_error,
        "error": span.error,
        "children": [],
    }
