"""Who asks about a tenant's exceptions. The tenant is the project of the key, and no other one.

The order is fixed, as in `auth`: the key (401), its scope (403), the tenant (403, the same for
another project, one of another organization, and none), and only then what the request asks for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import Depends, Request

from nilometer.access.types import Principal, Scope
from nilometer.api.auth import CURRENT, Caller, address_of, authenticate, require
from nilometer.api.errors import PermissionDenied
from nilometer.api.services import Context, Ctx
from nilometer.incidents.incident import Actor, ActorKind

PATH_PARAMETER = "tenant"
QUERY_PARAMETER = "tenant_id"

TENANT: Final[dict[str, Any]] = {
    "parameters": [
        {
            "name": PATH_PARAMETER,
            "in": "path",
            "required": True,
            "description": f"The project of the key: its id, or `{CURRENT}`.",
            "schema": {"type": "string"},
        }
    ]
}
"""The parameter of the path for the OpenAPI page, as it is read by hand."""


@dataclass(frozen=True, slots=True)
class Tenant(Caller):
    """An authenticated caller, within the project of their key."""

    @property
    def incident_actor(self) -> Actor:
        """How the history of an incident names them."""
        return Actor(ActorKind.KEY, self.principal.key_id)


def require_tenant(scope: Scope) -> Callable[..., Awaitable[Tenant]]:
    """A dependency: the caller, who has this scope, in the tenant that the request names, if it
    names one. A project key passes for `capture` only, which is all that it may."""
    permitted = _capturing if scope is Scope.CAPTURE else require(scope)

    async def in_tenant(request: Request, ctx: Ctx) -> Tenant:
        principal = await permitted(request, ctx)
        own = str(principal.project.project_id)
        named = request.path_params.get(PATH_PARAMETER), request.query_params.get(QUERY_PARAMETER)
        if any(each not in (None, CURRENT, own) for each in named):
            raise PermissionDenied("The tenant must be the project of this key.", attr="tenant")
        return Tenant(principal, address_of(request, ctx), principal.project.project_id)

    return in_tenant


async def _capturing(request: Request, ctx: Context) -> Principal:
    principal = await authenticate(request, ctx)
    if Scope.CAPTURE not in principal.scopes:
        raise PermissionDenied(f"API key missing required scope '{Scope.CAPTURE.value}'.")
    return principal


raiser = require_tenant(Scope.CAPTURE)
"""Who raises exceptions."""

Raiser = Annotated[Tenant, Depends(raiser)]
Seer = Annotated[Tenant, Depends(require_tenant(Scope.READ))]
Writer = Annotated[Tenant, Depends(require_tenant(Scope.WRITE))]
Approver = Annotated[Tenant, Depends(require_tenant(Scope.APPROVE))]
TenantOperator = Annotated[Tenant, Depends(require_tenant(Scope.OPERATE))]
