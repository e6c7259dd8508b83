"""The published JSON Schemas of AI events and of packs. Public: they say what to send, not what was
sent."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import APIRouter, Response

from nilometer.api.answers import json_answer
from nilometer.api.routing import NO_PARAMETERS, ErrorAnswer, route
from nilometer.capture.schema import schemas
from nilometer.errors import NotFound
from nilometer.incidents.packs import publishing

router = APIRouter(prefix="/api", tags=["schemas"], responses={404: {"model": ErrorAnswer}})


@route(router, "GET", "/schemas", dependencies=[NO_PARAMETERS])
async def list_schemas() -> Response:
    """The names of the schemas and where they are."""
    results = [{"name": name, "url": f"/api/schemas/{name}"} for name in sorted(_texts())]
    return json_answer({"next": None, "previous": None, "results": results})


@route(router, "GET", "/schemas/{name}", dependencies=[NO_PARAMETERS])
async def show_schema(name: str) -> Response:
    """One schema (draft 2020-12), as the capture door, or what reads packs, enforces it."""
    text = _texts().get(name)
    if text is None:
        raise NotFound("No such schema; /api/schemas/ lists them.", attr="name")
    return Response(text, media_type="application/schema+json")


def _texts() -> Mapping[str, bytes]:
    return {**schemas(), publishing.NAME: publishing.schema_text()}
