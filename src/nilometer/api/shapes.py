"""Organizations, projects, keys, deletions and audit entries as JSON objects.

Members that clients of the capture contract (section 6) expect are all there. What Nilometer does
not have is null, empty or false, and `api_token` is only ever set in what was just issued.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from nilometer.access.audit import AuditInfo
from nilometer.access.types import Scope
from nilometer.access.views import (
    DeletionInfo,
    IssuedKey,
    IssuedKeys,
    KeyInfo,
    OrganizationInfo,
    ProjectInfo,
)
from nilometer.domain import clock
from nilometer.query import times

Json = dict[str, Any]

# The contract's numbers for a member and an owner.
_MEMBER = 1
_OWNER = 15


def organization_brief(organization: OrganizationInfo, scopes: Collection[Scope]) -> Json:
    """An organization in a list, as a key with these scopes sees it."""
    return {
        "id": organization.organization_id,
        "name": organization.name,
        "slug": organization.slug,
        "logo_media_id": None,
        "created_at": moment(organization.created_at),
        "updated_at": moment(organization.updated_at),
        "membership_level": _OWNER if Scope.ADMIN in scopes else _MEMBER,
        "members_can_use_personal_api_keys": True,
    }


def organization(
    organization: OrganizationInfo, projects: Sequence[ProjectInfo], scopes: Collection[Scope]
) -> Json:
    """An organization with its projects, which the contract's clients also call teams."""
    shown = [project_brief(project) for project in projects]
    return {
        **organization_brief(organization, scopes),
        "teams": shown,
        "projects": shown,
        "plugins_access_level": 0,
        "available_product_features": [],
        "is_member_join_email_enabled": False,
        "metadata": {},
        "customer_id": None,
        "enforce_2fa": None,
        "members_can_invite": False,
        "allow_publicly_shared_resources": False,
        "member_count": 0,
        "is_ai_data_processing_approved": None,
        "default_experiment_stats_method": None,
        "default_role_id": None,
    }


def new_organization(
    info: OrganizationInfo, projects: Sequence[ProjectInfo], keys: IssuedKeys
) -> Json:
    """A new organization with the keys that came with it, at the only moment they are known."""
    return {
        **organization(info, projects, keys.personal_key.scopes),
        "personal_key": issued_key(keys.personal_key),
        "project_key": issued_key(keys.project_key),
    }


def project_brief(project: ProjectInfo, token: str | None = None) -> Json:
    """A project in a list."""
    return {
        "id": project.project_id,
        "uuid": project.uuid,
        "organization": project.organization_id,
        "project_id": project.project_id,
        "api_token": token,
        "name": project.name,
        "completed_snippet_onboarding": True,
        "has_completed_onboarding_for": {},
        "ingested_event": None,
        "is_demo": False,
        "timezone": "UTC",
        "access_control": False,
    }


def project(project: ProjectInfo, token: str | None = None) -> Json:
    """A project with its rules; `token` is that of its project key, if it was issued just now."""
    return {
        **project_brief(project, token),
        "capture": project.capture,
        "dropped_distinct_ids": sorted(project.dropped_distinct_ids),
        "retention_days": project.retention_days,
        "keep_other_spans": project.keep_other_spans,
        "redaction": project.redaction,
        "config_version": project.config_version,
        "created_at": moment(project.created_at),
        "updated_at": moment(project.updated_at),
    }


def deletion(deletion: DeletionInfo) -> Json:
    """How far the deletion of a project has come."""
    return {
        "project_id": deletion.project_id,
        "state": deletion.state,
        "requested_at": moment(deletion.requested_at),
        "requested_by": deletion.requested_by,
        "attempts": deletion.attempts,
        "last_error": deletion.last_error,
        "deleted": {
            "rows": deletion.rows,
            "blobs": deletion.blobs,
            "dead_letters": deletion.dead_letters,
            "keys": deletion.keys,
        },
        "finished_at": moment(deletion.finished_at),
        "verified_at": moment(deletion.verified_at),
    }


def key(key: KeyInfo) -> Json:
    """A key, without its token."""
    return {
        "id": key.key_id,
        "kind": key.kind,
        "project_id": key.project_id,
        "name": key.name,
        "scopes": sorted(key.scopes),
        "mask": key.mask,
        "created_at": moment(key.created_at),
        "revoked_at": moment(key.revoked_at),
    }


def issued_key(key: IssuedKey) -> Json:
    """A key with its token, at the only moment it is known."""
    return {
        "id": key.key_id,
        "kind": key.kind,
        "project_id": key.project_id,
        "name": key.name,
        "scopes": sorted(key.scopes),
        "mask": key.mask,
        "token": key.token,
    }


def audit_entry(entry: AuditInfo) -> Json:
    """One action of the audit log."""
    return {
        "id": entry.id,
        "at": moment(entry.at),
        "actor": entry.actor,
        "address": entry.address,
        "action": entry.action,
        "organization_id": entry.organization_id,
        "project_id": entry.project_id,
        "subject": entry.subject,
        "detail": dict(entry.detail),
    }


def moment(value: datetime | None) -> str | None:
    """A time as every answer writes it."""
    return None if value is None else times.rfc3339(clock.to_micros(value))
