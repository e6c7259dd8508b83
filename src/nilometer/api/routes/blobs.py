"""One blob, decoded, as an attachment that no browser runs."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Query
from fastapi.responses import StreamingResponse
from pydantic import Field

from nilometer.api.answers import PRIVATE
from nilometer.api.auth import Reader
from nilometer.api.routing import QueryModel, private_router, route
from nilometer.api.services import Ctx
from nilometer.blobs.types import StoredBlob

router = private_router("blobs")

_OCTETS = "application/octet-stream"
# The type was chosen by whoever sent the blob. Only types that no browser executes are repeated,
# with at most a charset; anything else is octets.
_INERT = re.compile(
    r"(?:application/(?:json|pdf)|text/(?:plain|csv|markdown)|image/(?:png|jpeg|gif|webp)"
    r"|(?:audio|video)/[a-z0-9][a-z0-9.+-]{0,62})",
)
_CHARSET = re.compile(r';\s*charset="?([a-z0-9][a-z0-9_.:-]{0,39})"?')
_TOKEN = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_EXTENSIONS = {
    "application/json": "json",
    "application/pdf": "pdf",
    "text/plain": "txt",
    "text/csv": "csv",
    "text/markdown": "md",
    "image/png": "png",
    "image/jpeg": "jpg",
    "image/gif": "gif",
    "image/webp": "webp",
}
_SAFE = {
    **PRIVATE,
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class BlobQuery(QueryModel):
    """Which blob."""

    url: str = Field(description="As it stands in the event's properties.", max_length=1024)


@route(
    router,
    "GET",
    "/projects/{project_id}/blobs",
    response_class=StreamingResponse,
    response_model=None,
)
async def read_blob(
    caller: Reader, ctx: Ctx, query: Annotated[BlobQuery, Query()]
) -> StreamingResponse:
    """One blob of the project: its bytes, decoded, with its content type, as a download.

    410 when its retention has ended. A compression that the server does not know is passed on
    with its `Content-Encoding`.
    """
    blob = await ctx.services.blobs.read(caller.project_id, query.url)
    return StreamingResponse(blob.chunks, headers=attachment_headers(blob))


def attachment_headers(blob: StoredBlob) -> dict[str, str]:
    """Headers under which no client shows or runs the bytes, whatever their declared type."""
    content_type = inert_type(blob.content_type)
    headers = {
        **_SAFE,
        "Content-Type": content_type,
        "Content-Length": str(blob.size),
        "Content-Disposition": f'attachment; filename="{_filename(blob.name, content_type)}"',
    }
    encoding = (blob.content_encoding or "").lower()
    return {**headers, "Content-Encoding": encoding} if _TOKEN.fullmatch(encoding) else headers


def inert_type(declared: str) -> str:
    """The declared type when it is one that nothing executes, octets otherwise."""
    lowered = declared.lower()
    media_type = _INERT.fullmatch(lowered.partition(";")[0].strip())
    if media_type is None:
        return _OCTETS
    charset = _CHARSET.search(lowered) if media_type[0].startswith("text/") else None
    return f"{media_type[0]}; charset={charset[1]}" if charset else media_type[0]


def _filename(name: str, content_type: str) -> str:
    stem = re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_")[:64] or "blob"
    return f"{stem}.{_EXTENSIONS.get(content_type.partition(';')[0], 'bin')}"
