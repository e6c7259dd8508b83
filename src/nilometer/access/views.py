"""What others see of organizations, projects, keys and deletions. No token but in what was just
issued, and no hash."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

from nilometer.access.tables import ApiKey, Organization, Project, ProjectDeletion
from nilometer.access.types import CaptureMode, DeletionState, KeyKind, Scope


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A key at the only moment its token is known. The token is never in the repr."""

    key_id: str
    kind: KeyKind
    name: str
    project_id: int
    scopes: frozenset[Scope]
    mask: str
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class IssuedKeys:
    """What a first start, or a new organization, made. Print the tokens once if `to_print`, else
    never: the operator chose the personal key and has it."""

    organization_id: str
    project_id: int
    project_key: IssuedKey
    personal_key: IssuedKey
    to_print: bool


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """A key as lists show it. `mask` is a part of its token, enough to tell two apart."""

    key_id: str
    kind: KeyKind
    name: str
    project_id: int
    scopes: frozenset[Scope]
    mask: str
    created_at: datetime
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class OrganizationInfo:
    """An organization. `updated_at` is that of its making until it is renamed."""

    organization_id: str
    name: str
    slug: str
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class ProjectInfo:
    """A project and its rules. `retention_days` None follows the setting. `redaction` is as it is
    set, None for none."""

    project_id: int
    organization_id: str
    name: str
    created_at: datetime
    updated_at: datetime
    config_version: int
    capture: CaptureMode
    dropped_distinct_ids: frozenset[str]
    retention_days: int | None
    keep_other_spans: bool
    redaction: Mapping[str, Any] | None

    @property
    def uuid(self) -> str:
        """A UUID of the project, for clients that want one: derived, so always the same."""
        return str(uuid5(UUID(self.organization_id), f"project {self.project_id}"))


@dataclass(frozen=True, slots=True)
class DeletionInfo:
    """How far the deletion of a project has come; the counts are of what was found and deleted.

    `last_error` is the code of what the last attempt failed with. `verified_at` is when the last
    look was taken, long after the last request that could still have been under way.
    """

    project_id: int
    state: DeletionState
    requested_at: datetime
    requested_by: str
    attempts: int
    last_error: str | None
    rows: int
    blobs: int
    dead_letters: int
    keys: int
    finished_at: datetime | None
    verified_at: datetime | None


def key_info(key: ApiKey) -> KeyInfo:
    """A row of the table, as others see it."""
    return KeyInfo(
        key_id=key.id,
        kind=key.kind,
        name=key.name,
        project_id=key.project_id,
        scopes=frozenset(scope for scope in Scope if scope.value in key.scopes),
        mask=key.mask,
        created_at=key.created_at,
        revoked_at=key.revoked_at,
    )


def issued_key(key: ApiKey, token: str) -> IssuedKey:
    """A row whose token was made just now."""
    seen = key_info(key)
    return IssuedKey(
        seen.key_id, seen.kind, seen.name, seen.project_id, seen.scopes, seen.mask, token
    )


def organization_info(organization: Organization) -> OrganizationInfo:
    """A row of the table, as others see it."""
    return OrganizationInfo(
        organization_id=organization.id,
        name=organization.name,
        slug=organization.slug,
        created_at=organization.created_at,
        updated_at=organization.updated_at or organization.created_at,
    )


def project_info(project: Project) -> ProjectInfo:
    """A row of the table, as others see it."""
    return ProjectInfo(
        project_id=project.id,
        organization_id=project.organization_id,
        name=project.name,
        created_at=project.created_at,
        updated_at=project.updated_at or project.created_at,
        config_version=project.config_version,
        capture=project.capture_mode,
        dropped_distinct_ids=frozenset(project.dropped_distinct_ids),
        retention_days=project.retention_days,
        keep_other_spans=project.keep_other_spans is not False,
        redaction=project.redaction,
    )


def deletion_info(deletion: ProjectDeletion) -> DeletionInfo:
    """A row of the table, as others see it."""
    return DeletionInfo(
        project_id=deletion.project_id,
        state=deletion.state,
        requested_at=deletion.requested_at,
        requested_by=deletion.requested_by,
        attempts=deletion.attempts,
        last_error=deletion.last_error,
        rows=deletion.rows,
        blobs=deletion.blobs,
        dead_letters=deletion.dead_letters,
        keys=deletion.keys,
        finished_at=deletion.finished_at,
        verified_at=deletion.verified_at,
    )
