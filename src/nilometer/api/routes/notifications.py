"""Notification channels, and what was sent to them."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from fastapi import Query, Request, Response
from pydantic import Field

from nilometer.api import shapes
from nilometer.api.answers import json_answer, list_answer
from nilometer.api.auth import Caller, Operator, ProjectAdmin, Reader
from nilometer.api.bodies import Body, Given, documented, read_body
from nilometer.api.routes.events import Text
from nilometer.api.routing import NO_PARAMETERS, QueryModel, private_router, route
from nilometer.api.services import Context, Ctx
from nilometer.notifications.channel_store import ChannelInfo, Channels
from nilometer.notifications.channels import ChannelKind
from nilometer.notifications.deliveries import Deliveries, Delivery
from nilometer.notifications.tables import State
from nilometer.query import paging

router = private_router("notifications")

_CHANNELS = "/projects/{project_id}/notification_channels"
_CHANNEL = f"{_CHANNELS}/{{channel_id}}"
_DELIVERIES = "/projects/{project_id}/notification_deliveries"
_DELIVERY = f"{_DELIVERIES}/{{delivery_id}}"


class ChannelBody(Body):
    """A new channel. What `config` has, docs/notifications.md says for each kind."""

    name: str
    kind: ChannelKind
    config: dict[str, Any]


class ChannelChangeBody(Body):
    """Another name, or other members of the configuration; null takes one away."""

    name: Given[str] = None
    config: Given[dict[str, Any]] = None


class RotateBody(Body):
    """A new signing secret, by default a random one, and for how long the old one signs as well."""

    secret: str | None = Field(None, description="`whsec_` and 24 to 64 bytes in base64.")
    overlap_seconds: int = Field(24 * 3600, description="0 to 7 days.")


class DeliveriesQuery(QueryModel):
    """The filters of a list of deliveries."""

    state: State | None = None
    channel: Text | None = Field(None, description="The id of a channel, also of a deleted one.")
    limit: int = Field(paging.DEFAULT_LIMIT, ge=1, le=paging.MAX_LIMIT)
    cursor: Text | None = Field(None, description="From a page's `next`.")


@route(router, "GET", _CHANNELS, dependencies=[NO_PARAMETERS])
async def list_channels(caller: Reader, ctx: Ctx) -> Response:
    """The project's channels, oldest first, without their secrets."""
    own = _channels(ctx, caller)
    found = await ctx.database_workers.run(lambda: own.list(caller.project_id))
    return json_answer({"results": [_channel_json(each) for each in found]})


@route(
    router,
    "POST",
    _CHANNELS,
    status_code=201,
    openapi_extra=documented(ChannelBody),
    dependencies=[NO_PARAMETERS],
)
async def add_channel(request: Request, caller: ProjectAdmin, ctx: Ctx) -> Response:
    """A new channel. A webhook's signing secret, if none was given, is shown this once."""
    body = await read_body(request, ChannelBody)
    own = _channels(ctx, caller)
    added = await ctx.database_workers.run(
        lambda: own.add(caller.project_id, body.name, body.kind, body.config)
    )
    return json_answer(_channel_json(added), 201)


@route(router, "GET", _CHANNEL, dependencies=[NO_PARAMETERS])
async def show_channel(channel_id: str, caller: Reader, ctx: Ctx) -> Response:
    """One channel, without its secrets."""
    own = _channels(ctx, caller)
    found = await ctx.database_workers.run(lambda: own.get(caller.project_id, channel_id))
    return json_answer(_channel_json(found))


@route(
    router,
    "PATCH",
    _CHANNEL,
    openapi_extra=documented(ChannelChangeBody),
    dependencies=[NO_PARAMETERS],
)
async def change_channel(
    request: Request, channel_id: str, caller: ProjectAdmin, ctx: Ctx
) -> Response:
    """Change a channel. What waits for it is sent as it then is."""
    body = await read_body(request, ChannelChangeBody)
    own = _channels(ctx, caller)
    changed = await ctx.database_workers.run(
        lambda: own.change(caller.project_id, channel_id, name=body.name, given=body.config)
    )
    return json_answer(_channel_json(changed))


@route(router, "DELETE", _CHANNEL, status_code=204, dependencies=[NO_PARAMETERS])
async def remove_channel(channel_id: str, caller: ProjectAdmin, ctx: Ctx) -> Response:
    """Remove a channel. What waits for it has then failed."""
    own = _channels(ctx, caller)
    await ctx.database_workers.run(lambda: own.remove(caller.project_id, channel_id))
    return Response(status_code=204)


@route(
    router,
    "POST",
    f"{_CHANNEL}/rotate",
    openapi_extra=documented(RotateBody, required=False),
    dependencies=[NO_PARAMETERS],
)
async def rotate_secret(
    request: Request, channel_id: str, caller: ProjectAdmin, ctx: Ctx
) -> Response:
    """A new signing secret for a webhook, shown this once; the old one signs too for a while."""
    body = await read_body(request, RotateBody)
    own = _channels(ctx, caller)
    rotated = await ctx.database_workers.run(
        lambda: own.rotate(
            caller.project_id,
            channel_id,
            secret=body.secret,
            overlap=timedelta(seconds=body.overlap_seconds),
        )
    )
    return json_answer(_channel_json(rotated))


@route(router, "POST", f"{_CHANNEL}/test", status_code=202, dependencies=[NO_PARAMETERS])
async def test_channel(channel_id: str, caller: ProjectAdmin, ctx: Ctx) -> Response:
    """Have a test notification sent, at once and once. Read its delivery for what came of it."""
    own, deliveries = _channels(ctx, caller), _deliveries(ctx, caller)

    def ask() -> Delivery:
        return deliveries.get(caller.project_id, own.test(caller.project_id, channel_id))

    asked = await ctx.database_workers.run(ask)
    ctx.services.wake_notifications()
    return json_answer(_delivery_json(asked), 202)


@route(router, "GET", _DELIVERIES)
async def list_deliveries(
    request: Request, caller: Reader, ctx: Ctx, query: Annotated[DeliveriesQuery, Query()]
) -> Response:
    """What waits, was sent or failed, newest first."""
    own = _deliveries(ctx, caller)
    page = await ctx.database_workers.run(
        lambda: own.list(
            caller.project_id,
            state=query.state,
            channel_id=query.channel or None,
            limit=query.limit,
            cursor=query.cursor or None,
        )
    )
    results = [_delivery_json(each) for each in page.rows]
    return list_answer(request, results, next_=page.next, previous=page.previous)


@route(router, "GET", _DELIVERY, dependencies=[NO_PARAMETERS])
async def show_delivery(delivery_id: str, caller: Reader, ctx: Ctx) -> Response:
    """One delivery with its notification."""
    own = _deliveries(ctx, caller)
    found = await ctx.database_workers.run(lambda: own.get(caller.project_id, delivery_id))
    return json_answer(_delivery_json(found))


@route(router, "POST", f"{_DELIVERY}/replay", dependencies=[NO_PARAMETERS])
async def replay_delivery(delivery_id: str, caller: Operator, ctx: Ctx) -> Response:
    """Have it sent again, now, under the same id; also one that was delivered."""
    own = _deliveries(ctx, caller)
    replayed = await ctx.database_workers.run(lambda: own.replay(caller.project_id, delivery_id))
    ctx.services.wake_notifications()
    return json_answer(_delivery_json(replayed))


def _channels(ctx: Context, caller: Caller) -> Channels:
    return ctx.services.notification_channels.acting_as(caller.authority)


def _deliveries(ctx: Context, caller: Caller) -> Deliveries:
    return ctx.services.deliveries.acting_as(caller.authority)


def _channel_json(channel: ChannelInfo) -> shapes.Json:
    told: shapes.Json = {
        "id": channel.id,
        "project_id": channel.project_id,
        "name": channel.name,
        "kind": channel.kind,
        "config": dict(channel.config),
        "secrets": list(channel.secrets),
        "created_at": shapes.moment(channel.created_at),
        "updated_at": shapes.moment(channel.updated_at),
    }
    if channel.signing_secret is not None:
        told["secret"] = channel.signing_secret
    return told


def _delivery_json(delivery: Delivery) -> shapes.Json:
    return {
        "id": delivery.id,
        "project_id": delivery.project_id,
        "channel_id": delivery.channel_id,
        "channel_name": delivery.channel_name,
        "state": delivery.state,
        "attempts": delivery.attempts,
        "error_code": delivery.error_code,
        "error": delivery.error,
        "created_at": shapes.moment(delivery.created_at),
        "due_at": shapes.moment(delivery.due_at),
        "give_up_at": shapes.moment(delivery.give_up_at),
        "finished_at": shapes.moment(delivery.finished_at),
        "notification": dict(delivery.notification),
    }
