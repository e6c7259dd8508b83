"""Who asks, and whether they may: a personal key, its scopes, and its organization's projects.

The order is fixed, so that an answer tells nothing that the key may not know: the key (401), its
scope (403), the project (404, the same for another organization's and for none), and only then
anything about what the request asks for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any, cast

import orjson
from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from nilometer.access import tokens
from nilometer.access.tables import MAX_PROJECT_ID
from nilometer.access.types import (
    Authority,
    KeyKind,
    Principal,
    Scope,
    TooManyGuesses,
    UnknownKey,
)
from nilometer.api.bodies import read_bytes
from nilometer.api.errors import NotAuthenticated, PermissionDenied
from nilometer.api.services import Context, Ctx
from nilometer.capture.provenance import client_address
from nilometer.errors import InvalidInput, NotFound

_LONGEST_PROJECT_ID = len(str(MAX_PROJECT_ID))
_PARAMETER = "personal_api_key"
# Stands for what was sent in place of a key and can be none, such as a number.
_NO_KEY = "\0"
# Stands for the key's own organization, or home project, in a path.
CURRENT = "@current"

# For the OpenAPI page only; the credential is read below.
BEARER = Depends(HTTPBearer(auto_error=False, description="A personal key."))


@dataclass(frozen=True, slots=True)
class Member:
    """An authenticated caller, within their organization. `address` is where they ask from."""

    principal: Principal
    address: str

    @property
    def actor(self) -> str:
        """How records of what the caller did name them."""
        return actor_of(self.principal)

    @property
    def authority(self) -> Authority:
        """What the caller may act on, and under which name."""
        return Authority(self.actor, self.address, self.principal.organization_id)


def actor_of(principal: Principal) -> str:
    """How records of what a key did name it."""
    return f"key:{principal.key_id}"


@dataclass(frozen=True, slots=True)
class Caller(Member):
    """An authenticated caller, within one project."""

    project_id: int


async def credential(request: Request, ctx: Context) -> tuple[str, str]:
    """The key of a request and where it was found: the header first, then a JSON body, then the
    query (capture contract, section 6)."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip(), "request Authorization header"
    in_query = request.query_params.get(_PARAMETER, "").strip()
    token = await _key_in_body(request, ctx, in_query)
    if token:
        return token, "body"
    if in_query:
        return in_query, "query string"
    raise NotAuthenticated(
        "Authentication credentials were not provided.", code="not_authenticated"
    )


async def _key_in_body(request: Request, ctx: Context, in_query: str) -> str:
    """The member `personal_api_key` of a body that says it is JSON, and is; else "".

    The body is then read before anybody knows whose it is. So few are read at once, and a slow one
    is given up early: this way in must not become a way to shut others out. Who has a key in the
    query is known, and is not held up.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0]
    if media_type.strip().lower() != "application/json":
        return ""
    try:
        if in_query and await _is_key(in_query, request, ctx):
            sent = orjson.loads(await read_bytes(request))
        else:
            async with ctx.unknown_bodies.passed():
                wait = ctx.services.settings.body_idle_timeout
                sent = orjson.loads(await read_bytes(request, seconds=wait))
    except (InvalidInput, orjson.JSONDecodeError):
        return ""  # said to whoever has a key, elsewhere in the request
    key = cast("dict[str, Any]", sent).get(_PARAMETER) if isinstance(sent, dict) else None
    if key is None or isinstance(key, str):
        return (key or "").strip()
    return _NO_KEY


async def _is_key(token: str, request: Request, ctx: Context) -> bool:
    try:
        await _admitted(token, request, ctx)
    except (UnknownKey, TooManyGuesses):
        return False
    return True


async def authenticate(request: Request, ctx: Context) -> Principal:
    """Whose key it is. Raises NotAuthenticated with the contract's sentences."""
    token, place = await credential(request, ctx)
    try:
        return await _admitted(token, request, ctx)
    except UnknownKey:
        raise NotAuthenticated(f"Personal API key found in {place} is invalid.") from None


async def _admitted(token: str, request: Request, ctx: Context) -> Principal:
    """Raises UnknownKey; what can be no key is not counted as a guess at one."""
    if len(token) > tokens.MAX_LENGTH or not token.isascii():
        raise UnknownKey("This can be no key.")
    return await ctx.services.keyring.admit(token, address_of(request, ctx))


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
        project_id = await _project(request.path_params["project_id"], principal, ctx)
        return Caller(principal, address_of(request, ctx), project_id)

    return in_project


def require_capture_in_project() -> Callable[..., Awaitable[Caller]]:
    """A dependency: the caller, who may capture, within the project of the path. The only one that
    a project key passes: it is for what is asked beside the calls, and of the key's own project."""

    async def capturing(request: Request, ctx: Ctx) -> Caller:
        principal = await authenticate(request, ctx)
        if Scope.CAPTURE not in principal.scopes:
            raise PermissionDenied(f"API key missing required scope '{Scope.CAPTURE.value}'.")
        project_id = await _project(request.path_params["project_id"], principal, ctx)
        return Caller(principal, address_of(request, ctx), project_id)

    return capturing


def require_in_organization(scope: Scope) -> Callable[..., Awaitable[Member]]:
    """A dependency: the caller, who has this scope, within the organization of the path, which
    can only be their own; or of a path without one."""
    permitted = require(scope)

    async def in_organization(request: Request, ctx: Ctx) -> Member:
        principal = await permitted(request, ctx)
        named = request.path_params.get("organization_id", CURRENT).lower()
        if named not in (CURRENT, principal.organization_id):
            raise NotFound("Organization not found.", attr="organization_id")
        return Member(principal, address_of(request, ctx))

    return in_organization


def require_first(scope: Scope) -> Callable[..., Awaitable[Member]]:
    """A dependency: the caller, who may act on the deployment itself: they have the scope, in the
    deployment's first organization. What is of no project may be of any other organization's."""
    permitted = require(scope)

    async def operator(request: Request, ctx: Ctx) -> Member:
        principal = await permitted(request, ctx)
        accounts, own = ctx.services.accounts, principal.organization_id
        if not await ctx.database_workers.run(lambda: accounts.organizations.is_first(own)):
            raise PermissionDenied(
                "Only a key of this deployment's first organization may operate all of it."
            )
        return Member(principal, address_of(request, ctx))

    return operator


def address_of(request: Request, ctx: Context) -> str:
    """Where a request comes from, as far as trusted proxies tell."""
    proxies = ctx.services.settings.trusted_proxies
    forwarded = [
        value for name, value in request.scope["headers"] if name == b"x-forwarded-for" and proxies
    ]
    return client_address(request.scope.get("client"), forwarded, proxies)


async def _project(text: str, principal: Principal, ctx: Context) -> int:
    project_id = named_project(text, principal)
    if project_id == principal.project.project_id:
        return project_id
    try:
        await ctx.database_workers.run(
            lambda: ctx.services.keyring.project_blocking(principal, project_id)
        )
    except NotFound:
        raise no_project() from None
    return project_id


def named_project(text: str, principal: Principal) -> int:
    """The project id that a path holds, or the key's own for `@current`. Raises NotFound for what
    can be none."""
    if text == CURRENT:
        return principal.project.project_id
    decimal = text.isascii() and text.isdigit() and not text.startswith("0")
    if not decimal or len(text) > _LONGEST_PROJECT_ID or int(text) > MAX_PROJECT_ID:
        raise no_project()
    return int(text)


def no_project() -> NotFound:
    """The one answer for a project of others and for none."""
    return NotFound("Project not found.", attr="project_id")


Reader = Annotated[Caller, Depends(require_in_project(Scope.READ))]
Capturer = Annotated[Caller, Depends(require_capture_in_project())]
Operator = Annotated[Caller, Depends(require_in_project(Scope.OPERATE))]
ProjectAdmin = Annotated[Caller, Depends(require_in_project(Scope.ADMIN))]
OrganizationReader = Annotated[Member, Depends(require_in_organization(Scope.READ))]
OrganizationAdmin = Annotated[Member, Depends(require_in_organization(Scope.ADMIN))]
DeploymentOperator = Annotated[Member, Depends(require_first(Scope.OPERATE))]
DeploymentAdmin = Annotated[Member, Depends(require_first(Scope.ADMIN))]
