"""Answers as JSON, written by orjson: exact texts pass through it unchanged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

import orjson
from fastapi import Request, Response

# What a project's keys may read is for the one who asked: no cache on the way keeps it.
PRIVATE = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_NOT_IN_LINKS = frozenset({"cursor", "personal_api_key"})


def json_answer(content: Any, status: int = 200) -> Response:
    """A JSON answer that no cache keeps."""
    return Response(orjson.dumps(content), status, headers=PRIVATE, media_type="application/json")


def list_answer(
    request: Request, results: Sequence[Any], *, next_: str | None, previous: str | None
) -> Response:
    """`{"next", "previous", "results"}`; the links are paths on this server, without any key."""
    return json_answer(
        {
            "next": _link(request, next_),
            "previous": _link(request, previous),
            "results": results,
        }
    )


def counted_answer(
    request: Request, results: Sequence[Any], *, limit: int, offset: int
) -> Response:
    """`{"count", "next", "previous", "results"}`: some of all the results, and how many all are."""
    count, end = len(results), offset + limit
    before = max(0, offset - limit)
    return json_answer(
        {
            "count": count,
            "next": _page(request, end) if end < count else None,
            "previous": _page(request, before) if offset else None,
            "results": results[offset:end],
        }
    )


def page_link(request: Request, **parameters: int) -> str:
    """The path of the same list with other parameters, without any key."""
    changed = _NOT_IN_LINKS | set(parameters)
    kept = [pair for pair in request.query_params.multi_items() if pair[0] not in changed]
    return f"{request.url.path}?{urlencode([*kept, *parameters.items()])}"


def _page(request: Request, offset: int) -> str:
    return page_link(request, offset=offset)


def _link(request: Request, cursor: str | None) -> str | None:
    if cursor is None:
        return None
    kept = [pair for pair in request.query_params.multi_items() if pair[0] not in _NOT_IN_LINKS]
    return f"{request.url.path}?{urlencode([*kept, ('cursor', cursor)])}"
