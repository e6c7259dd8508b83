"""Who asks, and whether they may: a personal key, its scopes, and its organization's projects.

The order is fixed, so that an answer tells nothing that the key may not know: the key (401), its
scope (403), the project (404, the same for another organization's and for none), and only then
anything about what the request asks for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from nilometer.access.types import KeyKind, Principal, Scope, UnknownKey
from nilometer.api.errors import NotAuthenticated, PermissionDenied
from nilometer.api.services import Context, Ctx
from nilometer.errors import NotFound

# Longer than any key that is ever issued or may be set.
_LONGEST_KEY = 128
_LONGEST_PROJECT_ID = 18

# For the OpenAPI page only; the credential is read below.
BEARER = Depends(HTTPBearer(auto_error=False, description="A personal key."))


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller, within one project."""

    principal: Principal
    project_id: int

    @property
    def actor(self) -> str:
        """How records of what the caller did name them."""
        return actor_of(self.principal)


def actor_of(principal: Principal) -> str:
    """How records of what a key did name it."""
    return f"key:{principal.key_id}"


def credential(request: Request) -> tuple[str, str]:
    """The key of a request and where it was found: the header first, then the query."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip(), "request Authorization header"
    token = request.query_params.get("personal_api_key", "").strip()
    if token:
        return token, "query string"
    raise NotAuthenticated(
        "Authentication credentials were not provided.", code="not_authenticated"
    )


async def authenticate(request: Request, ctx: Context) -> Principal:
    """Whose key it is. Raises NotAuthenticated with the contract's sentences."""
    token, place = credential(request)
    invalid = NotAuthenticated(f"Personal API key found in {place} is invalid.")
    if len(token) > _LONGEST_KEY or not token.isascii():
        raise invalid
    try:
        return await ctx.services.keyring.authenticate(token)
    except UnknownKey:
        raise invalid from None


def require(scope: Scope) -> Callable[[Request, Context], Awaitable[Principal]]:
    """A dependency: the principal, who has this scope. For what is of no project."""

    async def permitted(request: Request, ctx: Ctx) -> Principal:
        principal = await authenticate(request, ctx)
        if principal.kind is not KeyKind.PERSONAL:
            raise PermissionDenied(
                "A project key may only capture; use a personal key "
                f"with the scope '{scope.value}'."
            )
        if scope not in principal.scopes:
            raise PermissionDenied(f"API key missing required scope '{scope.value}'.")
        return principal

    return permitted


def require_in_project(scope: Scope) -> Callable[..., Awaitable[Caller]]:
    """A dependency: the caller, who has this scope, within the project of the path."""
    permitted = require(scope)

    async def in_project(request: Request, ctx: Ctx) -> Caller:
        principal = await permitted(request, ctx)
        return Caller(principal, await _project(request.path_params["project_id"], principal, ctx))

    return in_project


async def _project(text: str, principal: Principal, ctx: Context) -> int:
    project_id = _project_id(text)
    if project_id == principal.project.project_id:
        return project_id
    try:
        await ctx.database_workers.run(
            lambda: ctx.services.keyring.project_blocking(principal, project_id)
        )
    except NotFound:
        raise _no_project() from None
    return project_id


def _project_id(text: str) -> int:
    decimal = text.isascii() and text.isdigit() and not text.startswith("0")
    if not decimal or len(text) > _LONGEST_PROJECT_ID:
        raise _no_project()
    return int(text)


def _no_project() -> NotFound:
    return NotFound("Project not found.", attr="project_id")


Reader = Annotated[Caller, Depends(require_in_project(Scope.READ))]
Operator = Annotated[Caller, Depends(require_in_project(Scope.OPERATE))]
DeploymentOperator = Annotated[Principal, Depends(require(Scope.OPERATE))]
