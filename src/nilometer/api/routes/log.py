"""How far the river has come: the log's groups and the pipeline. Numbers of the whole deployment,
no project's content; for operators."""

from __future__ import annotations

from typing import Any

from fastapi import Response
from pydantic import BaseModel, Field

from nilometer.api.answers import json_answer
from nilometer.api.auth import DeploymentOperator
from nilometer.api.routing import NO_PARAMETERS, private_router, route
from nilometer.api.services import Ctx, Services
from nilometer.domain import clock
from nilometer.errors import NotFound
from nilometer.log.port import Lag, LogState
from nilometer.query import times

router = private_router("log")


class LagAnswer(BaseModel):
    """How far a group of readers is behind."""

    records: int = Field(description="Records that it has not committed.")
    oldest_at: str | None = Field(description="When the oldest of them was appended.")
    seconds: float | None = Field(
        description="The age of that record; 0 when nothing waits, null when it is not known."
    )
    partitions: dict[str, int] = Field(
        description="Records behind in each partition that has some; empty where the log is one."
    )


class ExceptionsLogAnswer(BaseModel):
    """The log of what happens to exceptions; its groups are the stages that it drives."""

    ready: bool
    reason: str
    records: int
    bytes: int | None
    groups: dict[str, LagAnswer]


class PipelineAnswer(BaseModel):
    """Whether the pipeline runs, or why it waits."""

    running: bool
    reason: str = Field(description="A stable code; empty when it runs.")
    detail: str


class LogAnswer(BaseModel):
    """The log of this deployment."""

    ready: bool = Field(description="Whether an append would succeed.")
    reason: str
    records: int
    bytes: int | None = Field(description="None where the log cannot tell.")
    groups: dict[str, LagAnswer]
    exceptions: ExceptionsLogAnswer | None = Field(
        description="The log of what happens to exceptions; none where it is not read."
    )
    pipeline: PipelineAnswer | None = Field(description="None when none runs in this process.")


@route(router, "GET", "/log", response_model=LogAnswer, dependencies=[NO_PARAMETERS])
async def show_log(_: DeploymentOperator, ctx: Ctx) -> Response:
    """The log's size, each group's lag, and the pipeline's state; the same of the log of
    exceptions."""
    services = ctx.services
    exceptions = services.exceptions_log
    return json_answer(
        {
            **_log_json(services.log.state()),
            "exceptions": None if exceptions is None else _log_json(exceptions.state()),
            "pipeline": _pipeline_json(services),
        }
    )


@route(
    router, "POST", "/pipeline/resume", response_model=PipelineAnswer, dependencies=[NO_PARAMETERS]
)
async def resume_pipeline(_: DeploymentOperator, ctx: Ctx) -> Response:
    """Let a pipeline go on that stopped because too many records failed."""
    services = ctx.services
    pipeline = services.pipeline
    if pipeline is None:
        raise NotFound(
            "No pipeline runs in this process. Restart the workers: they then try again."
        )
    await ctx.database_workers.run(pipeline.resume)
    return json_answer(_pipeline_json(services))


def _log_json(state: LogState) -> dict[str, Any]:
    now = clock.to_micros(clock.now())
    return {
        "ready": state.ready,
        "reason": state.reason,
        "records": state.depth,
        "bytes": state.size,
        "groups": {name: _lag_json(lag, now) for name, lag in sorted(state.groups.items())},
    }


def _lag_json(lag: Lag, now: int) -> dict[str, Any]:
    oldest = lag.oldest_at
    return {
        "records": lag.records,
        "oldest_at": None if oldest is None else times.rfc3339(oldest),
        "seconds": lag.seconds(now),
        "partitions": {str(number): count for number, count in sorted(lag.partitions.items())},
    }


def _pipeline_json(services: Services) -> dict[str, Any] | None:
    if services.pipeline is None:
        return None
    state = services.pipeline.state()
    return {"running": state.running, "reason": state.reason, "detail": state.detail}
