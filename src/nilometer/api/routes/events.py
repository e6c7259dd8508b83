"""Events: a list with filters, and one by its uuid."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Annotated, Any

import orjson
from fastapi import Query, Request, Response
from pydantic import BaseModel, Field

from nilometer.api.answers import json_answer, list_answer
from nilometer.api.auth import Reader
from nilometer.api.routing import QueryModel, private_router, route
from nilometer.api.services import Context, Ctx
from nilometer.domain import clock
from nilometer.domain.ai_record import BlobReference
from nilometer.domain.packed import PackedValue
from nilometer.query import paging, times
from nilometer.query.costs import CallCost, money, with_costs
from nilometer.query.events import Event, EventFilters
from nilometer.query.hydration import Budget, Hydrated, Outcome, hydrate
from nilometer.query.unpacking import Unpacked, unpack

router = private_router("events")

Text = Annotated[str, Field(max_length=2048)]
Hydrate = Annotated[bool, Field(description="Put blobs back into the properties.")]


class BlobAnswer(BaseModel):
    """One large value of the event, kept beside it. `hydration` is there when asked for."""

    name: str
    url: str
    content_type: str
    content_encoding: str | None
    size: int = Field(description="Bytes as received.")
    stored_size: int
    expired: bool
    hydration: Outcome | None = None


class PackedAnswer(BaseModel):
    """One large value that was sent inside the event and is kept beside it."""

    property: str
    url: str
    size: int = Field(description="Bytes of its JSON text.")
    state: Outcome = Field(
        description="`inlined`: it stands in the properties. Otherwise why its URL stands there."
    )


class CostAnswer(BaseModel):
    """What the call of an event costs, USD, as exact decimal text; null when not known."""

    call_id: str
    input_usd: str | None = Field(description="Computed.")
    output_usd: str | None
    total_usd: str | None
    reported_input_usd: str | None = Field(description="As the source reported it.")
    reported_output_usd: str | None
    reported_total_usd: str | None
    reason: str = Field(description="Why there is no computed cost; empty when there is one.")
    price_source: str = Field(description="genai-prices, or override:<id>.")
    price_version: str
    price_as_of: str = Field(description="The date of the price rule.")
    priced_model: str
    priced_provider: str


class EventAnswer(BaseModel):
    """One event. Times are RFC 3339 in UTC, with microseconds."""

    uuid: str
    event: str
    distinct_id: str
    timestamp: str
    accepted_at: str
    expires_at: str
    project_id: int
    trace_id: str | None
    span_id: str | None
    parent_id: str | None
    session_id: str | None
    properties: dict[str, Any]
    blobs: list[BlobAnswer]
    packed: list[PackedAnswer]
    cost: CostAnswer | None = Field(description="Of the call that it describes; null for none.")
    redacted: dict[str, int] = Field(
        description="How often each redaction rule was applied before the event was stored."
    )


class EventsAnswer(BaseModel):
    """A page of events, newest first. The links are paths on this server."""

    next: str | None
    previous: str | None
    results: list[EventAnswer]


class EventsQuery(QueryModel):
    """The filters of a list of events."""

    event: Text | None = None
    distinct_id: Text | None = None
    trace_id: Text | None = None
    session_id: Text | None = None
    after: Text | None = Field(None, description="From this time on, included.")
    before: Text | None = Field(None, description="Up to this time, excluded.")
    limit: int = Field(paging.DEFAULT_LIMIT, ge=1, le=paging.MAX_LIMIT)
    cursor: Text | None = Field(None, description="From a page's `next` or `previous`.")
    hydrate: Hydrate = False

    def filters(self) -> EventFilters:
        """The filters, times parsed. Raises InvalidInput."""
        return EventFilters(
            event=self.event,
            distinct_id=self.distinct_id,
            trace_id=self.trace_id,
            session_id=self.session_id,
            after=None if self.after is None else times.parse(self.after, attr="after"),
            before=None if self.before is None else times.parse(self.before, attr="before"),
        )


class EventQuery(QueryModel):
    """How one event is shown."""

    hydrate: Hydrate = False


@route(router, "GET", "/projects/{project_id}/events", response_model=EventsAnswer)
async def list_events(
    request: Request, caller: Reader, ctx: Ctx, query: Annotated[EventsQuery, Query()]
) -> Response:
    """Events, newest first: a page ends at `limit` events or 16 MiB of properties.

    Large values that were sent inside an event stand where they were sent; `packed` lists them.
    """
    filters = query.filters()
    async with _room(ctx, hydrated=query.hydrate):
        page = await ctx.store_workers.run(
            lambda: ctx.events.list(
                caller.project_id, filters, limit=query.limit, cursor=query.cursor or None
            )
        )
        results = await _shown(page.rows, ctx, hydrated=query.hydrate)
        return await asyncio.to_thread(
            list_answer, request, results, next_=page.next, previous=page.previous
        )


@route(router, "GET", "/projects/{project_id}/events/{uuid}", response_model=EventAnswer)
async def show_event(
    uuid: str, caller: Reader, ctx: Ctx, query: Annotated[EventQuery, Query()]
) -> Response:
    """One event by its uuid."""
    async with _room(ctx, hydrated=query.hydrate):
        event = await ctx.store_workers.run(lambda: ctx.events.get(caller.project_id, uuid))
        results = await _shown((event,), ctx, hydrated=query.hydrate)
        return await asyncio.to_thread(json_answer, results[0])


def _room(ctx: Context, *, hydrated: bool) -> AbstractAsyncContextManager[None]:
    return ctx.hydrations.passed() if hydrated else nullcontext()


async def _shown(
    events: tuple[Event, ...], ctx: Context, *, hydrated: bool
) -> list[dict[str, Any]]:
    budget, blobs = Budget(), ctx.services.blobs
    unpacked = await unpack(events, blobs, budget)
    if not hydrated:
        return [event_json(each) for each in unpacked]
    return [event_json(each, await hydrate(each.event, blobs, budget)) for each in unpacked]


def event_json(unpacked: Unpacked, hydrated: Hydrated | None = None) -> dict[str, Any]:
    """An event for orjson; its properties keep the exact text that was sent, and get the computed
    costs that the source did not report."""
    event = unpacked.event
    now = clock.to_micros(clock.now())
    outcomes = hydrated.outcomes if hydrated else None
    properties = hydrated.properties if hydrated else event.properties
    return {
        "uuid": event.uuid,
        "event": event.event,
        "distinct_id": event.distinct_id,
        "timestamp": times.rfc3339(event.timestamp),
        "accepted_at": times.rfc3339(event.accepted_at),
        "expires_at": times.rfc3339(event.expires_at),
        "project_id": event.project_id,
        "trace_id": event.trace_id,
        "span_id": event.span_id,
        "parent_id": event.parent_id,
        "session_id": event.session_id,
        "properties": orjson.Fragment(with_costs(properties, event.cost)),
        "blobs": [
            _blob_json(blob, expired=event.expires_at <= now, outcomes=outcomes)
            for blob in event.blobs
        ],
        "packed": [_packed_json(value, unpacked.outcomes) for value in event.packed],
        "cost": None if event.cost is None else _cost_json(event.cost),
        "redacted": event.redacted,
    }


def _cost_json(cost: CallCost) -> dict[str, Any]:
    return {
        "call_id": cost.call_id,
        "input_usd": money(cost.cost_input),
        "output_usd": money(cost.cost_output),
        "total_usd": money(cost.cost_total),
        "reported_input_usd": money(cost.reported_input_cost_usd),
        "reported_output_usd": money(cost.reported_output_cost_usd),
        "reported_total_usd": money(cost.reported_total_cost_usd),
        "reason": cost.price_reason,
        "price_source": cost.price_source,
        "price_version": cost.price_version,
        "price_as_of": cost.price_as_of,
        "priced_model": cost.priced_model,
        "priced_provider": cost.priced_provider,
    }


def _packed_json(value: PackedValue, outcomes: Mapping[str, Outcome]) -> dict[str, Any]:
    name = value.property or ""
    return {"property": name, "url": value.url, "size": value.size, "state": outcomes[name]}


def _blob_json(
    blob: BlobReference, *, expired: bool, outcomes: Mapping[str, Outcome] | None
) -> dict[str, Any]:
    shown = {
        "name": blob.name,
        "url": blob.url,
        "content_type": blob.content_type,
        "content_encoding": blob.content_encoding,
        "size": blob.size,
        "stored_size": blob.stored_size,
        "expired": expired or (outcomes or {}).get(blob.name) is Outcome.EXPIRED,
    }
    return shown if outcomes is None else {**shown, "hydration": outcomes[blob.name]}
