"""JSON bodies: read only once the caller is known, bounded, and checked against a model."""

from __future__ import annotations

from typing import Any, TypeVar

import orjson
from fastapi import Request
from pydantic import BaseModel, ConfigDict, ValidationError

from nilometer.errors import InvalidInput

MAX_BODY = 2 * 1024 * 1024


class Body(BaseModel):
    """What a request may say. An unknown member is refused: a misspelt one that is silently ignored
    changes nothing and looks as if it had."""

    model_config = ConfigDict(extra="forbid")


Kind = TypeVar("Kind", bound=Body)


async def read_body(request: Request, kind: type[Kind]) -> Kind:
    """The body as this model; an empty one as `{}`. Raises InvalidInput, which never repeats what
    was sent."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise InvalidInput(f"The body is larger than {MAX_BODY} bytes.")
    try:
        return kind.model_validate(orjson.loads(body or b"{}"))
    except orjson.JSONDecodeError:
        raise InvalidInput("The body is not JSON.", code="parse_error") from None
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        attr = ".".join(str(part) for part in first["loc"]) or None
        sentence = f"{attr}: {first['msg']}." if attr else f"{first['msg']}."
        raise InvalidInput(sentence, code=str(first["type"]), attr=attr) from None


def documented(kind: type[Body], *, required: bool = True) -> dict[str, Any]:
    """The model for the OpenAPI page: what is read by hand is not seen by FastAPI."""
    schema = {"schema": kind.model_json_schema()}
    return {"requestBody": {"required": required, "content": {"application/json": schema}}}
