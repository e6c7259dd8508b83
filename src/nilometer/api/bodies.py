"""JSON bodies: read only once the caller is known, bounded, and checked against a model."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, TypeVar, cast

import orjson
from fastapi import Request
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    SecretStr,
    ValidationError,
)
from pydantic_core import CoreSchema, PydanticCustomError

from nilometer.api.errors import RequestTimeout, UnsupportedEncoding
from nilometer.api.services import context
from nilometer.domain import members
from nilometer.errors import InvalidInput

MAX_BODY = 2 * 1024 * 1024


class Body(BaseModel):
    """What a request may say. An unknown member is refused: a misspelt one that is silently ignored
    changes nothing and looks as if it had. So is a value of another type: `"30"` and `true` are no
    numbers of days."""

    model_config = ConfigDict(extra="forbid", strict=True)

    personal_api_key: SecretStr | None = Field(
        None, description="The key, for clients that cannot send an Authorization header."
    )


Kind = TypeVar("Kind", bound=Body)
Value = TypeVar("Value")


class _Given:
    """Takes null out of the JSON schema of a member whose default is None."""

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return next(each for each in handler(schema)["anyOf"] if each != {"type": "null"})


def _not_null(value: object) -> object:
    if value is None:
        raise PydanticCustomError("null", "Leave it out, or give a value in place of null")
    return value


Given = Annotated[Value | None, BeforeValidator(_not_null), _Given()]
"""A member that may be left out, and is then None; null itself says nothing, and is refused."""


async def read_body(request: Request, kind: type[Kind]) -> Kind:
    """The body as this model; an empty one as `{}`. Raises InvalidInput, which never repeats what
    was sent."""
    body = await read_bytes(request)
    try:
        read = orjson.loads(body or b"{}")  # which takes no NaN
        if b"\\u0000" in body:
            _check_texts(read)
        return kind.model_validate_json(body or b"{}")
    except orjson.JSONDecodeError:
        raise InvalidInput("The body is not JSON.", code="parse_error") from None
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        attr = ".".join(str(part) for part in first["loc"]) or None
        told = members.sentence(first, kind, but=["personal_api_key"])
        sentence = f"{attr}: {told}." if attr else f"{told}."
        raise InvalidInput(sentence, code=str(first["type"]), attr=attr) from None


def _check_texts(read: Any) -> None:
    """Refuse NUL, which not every database keeps, in names and values."""
    waiting: list[Any] = [read]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            members = cast("dict[str, Any]", value)
            waiting += [*members, *members.values()]
        elif isinstance(value, list):
            waiting += cast("list[Any]", value)
        elif isinstance(value, str) and "\0" in value:
            raise InvalidInput("A text holds NUL, which cannot be kept.", code="nul")


async def read_bytes(
    request: Request, *, limit: int = MAX_BODY, seconds: float | None = None
) -> bytes:
    """The body, kept with the request: who asks first is the one that waits, for so many seconds
    (by default the setting `body_timeout`).

    Raises InvalidInput for a longer one, UnsupportedEncoding for one that is compressed, or says
    so, and RequestTimeout.
    """
    encoding = request.headers.get("content-encoding", "").strip().lower()
    if encoding not in ("", "identity"):
        raise UnsupportedEncoding("Send the body as it is: no Content-Encoding is read here.")
    state = request.scope.setdefault("state", {})
    if "body" not in state:
        state["body"] = await _received(request, limit, seconds)
    body = cast("bytes", state["body"])
    if len(body) > limit:
        raise InvalidInput(f"The body is larger than {limit} bytes.")
    return body


async def _received(request: Request, limit: int, seconds: float | None) -> bytes:
    """The body; of one that is too long a little more than the limit."""
    body = bytearray()
    if seconds is None:
        seconds = context(request).services.settings.body_timeout
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    break
    except TimeoutError:
        raise RequestTimeout("The body did not arrive in time.") from None
    return bytes(body)


def documented(kind: type[Body], *, required: bool = True) -> dict[str, Any]:
    """The model for the OpenAPI page: what is read by hand is not seen by FastAPI."""
    schema = {"schema": json_schema(kind)}
    return {"requestBody": {"required": required, "content": {"application/json": schema}}}


def json_schema(kind: type[BaseModel]) -> dict[str, Any]:
    """The schema of a model with its parts in their places: a reference within it would lead
    nowhere in the document that it is put into."""
    schema = kind.model_json_schema()
    return cast("dict[str, Any]", _in_place(schema, schema.pop("$defs", {})))


def _in_place(schema: Any, parts: dict[str, Any]) -> Any:
    if isinstance(schema, list):
        return [_in_place(each, parts) for each in cast("list[Any]", schema)]
    if not isinstance(schema, dict):
        return schema
    members = cast("dict[str, Any]", schema)
    if "$ref" in members:
        part = parts[members["$ref"].removeprefix("#/$defs/")]
        members = part | {name: each for name, each in members.items() if name != "$ref"}
    return {name: _in_place(each, parts) for name, each in members.items()}
