"""The nouns of this room."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from nilometer.database.fence import EVERY_ROW, RowScope, rows_of_organization
from nilometer.domain.redaction.rules import RedactionRules
from nilometer.errors import NilometerError, Unavailable


class Scope(StrEnum):
    """What a personal key may do. A project key may capture, nothing else."""

    CAPTURE = "capture"
    READ = "read"
    WRITE = "write"
    OPERATE = "operate"
    APPROVE = "approve"
    ADMIN = "admin"


ALL_SCOPES = frozenset(Scope)


class KeyKind(StrEnum):
    """Whose key it is."""

    PROJECT = "project"
    PERSONAL = "personal"


class CaptureMode(StrEnum):
    """What capture does with a project's events: keep them; answer 200 and drop them (a token
    dropper); or refuse them as over quota with 429."""

    ACCEPT = "accept"
    DROP = "drop"
    OVER_QUOTA = "over_quota"


class DeletionState(StrEnum):
    """How far the deletion of a project has come: nothing done yet; under way, or waiting for a
    part that is down; all that the project had is gone."""

    PENDING = "pending"
    DELETING = "deleting"
    DELETED = "deleted"


class Action(StrEnum):
    """What the audit log tells of."""

    ORGANIZATION_CREATE = "organization.create"
    ORGANIZATION_RENAME = "organization.rename"
    ORGANIZATION_DELETE = "organization.delete"
    PROJECT_CREATE = "project.create"
    PROJECT_CHANGE = "project.change"
    PROJECT_ROTATE = "project.rotate"
    PROJECT_DELETE = "project.delete"
    PROJECT_DELETED = "project.deleted"
    KEY_CREATE = "key.create"
    KEY_RENAME = "key.rename"
    KEY_ROTATE = "key.rotate"
    KEY_REVOKE = "key.revoke"
    PRICE_OVERRIDE_ADD = "price_override.add"
    PRICE_OVERRIDE_REMOVE = "price_override.remove"
    REWRITE_ADD = "rewrite.add"
    REWRITE_CANCEL = "rewrite.cancel"
    BUDGET_ADD = "budget.add"
    BUDGET_CHANGE = "budget.change"
    BUDGET_REMOVE = "budget.remove"
    ALERT_RULE_ADD = "alert_rule.add"
    ALERT_RULE_REMOVE = "alert_rule.remove"
    NOTIFICATION_CHANNEL_ADD = "notification_channel.add"
    NOTIFICATION_CHANNEL_CHANGE = "notification_channel.change"
    NOTIFICATION_CHANNEL_ROTATE = "notification_channel.rotate"
    NOTIFICATION_CHANNEL_REMOVE = "notification_channel.remove"
    NOTIFICATION_REPLAY = "notification.replay"
    TOOL_ADD = "tool.add"
    TOOL_CHANGE = "tool.change"
    TOOL_ROTATE = "tool.rotate"
    TOOL_REMOVE = "tool.remove"
    TOOL_BREAKER_CLOSE = "tool.breaker_close"
    TOOL_EXECUTION_DECIDE = "tool_execution.decide"
    PACK_ADD = "pack.add"
    PACK_ACTIVATE = "pack.activate"
    PACK_DEACTIVATE = "pack.deactivate"


class UnknownKey(NilometerError):
    """No such key, or no longer. Nothing tells the two apart."""

    code = "authentication_failed"


class AccessUnavailable(Unavailable):
    """The database has been away for longer than keys may be trusted unchecked."""

    code = "access_unavailable"


class TooManyGuesses(Unavailable):
    """Too many keys that do not exist came from one address. Tells nothing about this key."""

    code = "throttled"


@dataclass(frozen=True, slots=True)
class Authority:
    """Who acts, from where, and on what: one organization (its UUID text), or for the operator of
    the deployment every one (None). Whatever an authority cannot act on does not exist for it."""

    actor: str
    address: str | None
    organization_id: str | None

    @property
    def rows(self) -> RowScope:
        """Whose rows its transactions may touch."""
        if self.organization_id is None:
            return EVERY_ROW
        return rows_of_organization(self.organization_id)


OPERATOR = Authority("operator", None, None)
"""Whoever has the data directory."""


@dataclass(frozen=True, slots=True)
class ProjectConfig:
    """One project's rules, as a snapshot. `version` grows with every change.

    `keep_other_spans` says whether OpenTelemetry's spans that are not of AI are kept. `redaction`
    is what is kept out of everything that is stored, None for nothing.
    """

    project_id: int
    version: int
    capture: CaptureMode
    dropped_distinct_ids: frozenset[str]
    retention_days: int
    keep_other_spans: bool
    redaction: RedactionRules | None = None


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a credential stands for.

    `organization_id` is a UUID text. `project` is the project that this key captures into: the
    key's own for a project key, the home project for a personal key. A personal key reads every
    project of its organization, within its scopes.
    """

    key_id: str
    kind: KeyKind
    organization_id: str
    project: ProjectConfig
    scopes: frozenset[Scope]
