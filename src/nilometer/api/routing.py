"""How a route is registered: with and without a slash at its end, and its errors for OpenAPI."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field

from nilometer.api.auth import BEARER

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])


class ErrorAnswer(BaseModel):
    """Every error, of every route."""

    type: str = Field(examples=["validation_error"])
    code: str = Field(description="Stable, for machines.", examples=["invalid_cursor"])
    detail: str = Field(description="One sentence that says what to change.")
    attr: str | None = Field(description="The field at fault, when there is one.")


class QueryModel(BaseModel):
    """The query of a request. An unknown parameter is refused: a misspelt filter that is silently
    ignored shows everything."""

    model_config = ConfigDict(extra="forbid")

    personal_api_key: str | None = Field(
        None, description="The key, for clients that cannot send an Authorization header."
    )


async def _refuse_parameters(query: Annotated[QueryModel, Query()]) -> None:
    """Declared for its type: FastAPI refuses what the model does not know. A coroutine, as any
    other function would be given a thread."""
    del query


# For a route that takes no query.
NO_PARAMETERS = Depends(_refuse_parameters)

_MEANINGS = {
    400: "The request is wrong; `attr` names what.",
    401: "No valid key came with it.",
    403: "The key may not do this.",
    404: "No such thing in a project that the key may see.",
    408: "The body did not arrive in time.",
    409: "It is at odds with something that is not finished.",
    429: "Too many wrong keys came from this address; `Retry-After` says when to try again.",
    503: "A part that is needed is down or busy; `Retry-After` says when to try again.",
}
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer, "description": meaning} for status, meaning in _MEANINGS.items()
}


def direct(handle: Callable[[Request], Awaitable[Response]]) -> type[APIRoute]:
    """A class of routes that have requests without parameters in their URL answered by `handle`,
    which takes all that it needs from the request. FastAPI, which shows the endpoint's signature
    and is asked for every other request, takes longer to fill it in than most of them take."""

    class Direct(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            ordinary = super().get_route_handler()

            async def answer(request: Request) -> Response:
                if request.scope["query_string"]:
                    return await ordinary(request)
                return await handle(request)

            return answer

    return Direct


def private_router(tag: str) -> APIRouter:
    """A router of routes that need a key."""
    return APIRouter(prefix="/api", tags=[tag], dependencies=[BEARER], responses=ERRORS)


def route(
    router: APIRouter, method: str, path: str, **options: Any
) -> Callable[[Endpoint], Endpoint]:
    """Register the endpoint at the path with a slash (documented) and without."""

    def register(endpoint: Endpoint) -> Endpoint:
        router.add_api_route(f"{path}/", endpoint, methods=[method], **options)
        router.add_api_route(path, endpoint, methods=[method], include_in_schema=False)
        return endpoint

    return register
