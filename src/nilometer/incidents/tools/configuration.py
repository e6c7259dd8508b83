"""What a tool of each kind may be told, checked with the secrets that it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from nilometer.errors import InvalidInput
from nilometer.incidents.tools import remote_config, schemas
from nilometer.incidents.tools.kinds import INPUTS, REMOTE, ToolKind
from nilometer.incidents.tools.remote_config import RemoteConfig
from nilometer.incidents.tools.resolving import SIGNING
from nilometer.incidents.tools.secrets import check_number, check_used, checked_secrets
from nilometer.notifications.reach import Reach


@dataclass(frozen=True, slots=True)
class Checked:
    """A configuration to be kept; secrets to be set, those to be dropped, and whether one to sign
    with has to be made."""

    config: dict[str, Any]
    secrets: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    dropped: frozenset[str] = frozenset()
    wants_signing: bool = False


def checked_config(
    kind: ToolKind,
    *,
    before: Mapping[str, Any] | None,
    config: Mapping[str, Any],
    secrets: Mapping[str, str | None],
    there: set[str],
    reach: Reach,
) -> Checked:
    """The configuration with these members and secrets in place of its own (`before`, None of a new
    tool; `there` are the names of its secrets). Raises InvalidInput, which repeats no secret."""
    merged = {k: v for k, v in {**(before or {}), **config}.items() if v is not None}
    given = checked_secrets({k: v for k, v in secrets.items() if v is not None})
    dropped = {name for name, value in secrets.items() if value is None}
    if kind not in REMOTE:
        check_used(set(), there - dropped | given.keys(), signed=False)
        _check_own(kind, merged)
        return Checked(merged, dropped=frozenset(dropped))
    now = remote_config.read(kind, merged)
    remote_config.check(now, reach)
    if not reach.may_lead_to(httpx.URL(remote_config.origin(now)).host):
        raise InvalidInput(
            "this address is private, and the operator has not allowed it "
            "(NILOMETER_NOTIFICATION_NETWORKS)",
            attr="config.url",
        )
    kept = there - dropped - given.keys()
    if before is not None and _moved(kind, before, now):
        if kept - {SIGNING}:
            raise InvalidInput("give the secrets again: they would go elsewhere", attr="secrets")
        kept = set[str]()
    if not now.signed:
        dropped |= {SIGNING} & kept
        kept -= {SIGNING}
    wants = now.signed and SIGNING not in kept | given.keys()
    if given or before is None:
        check_number(kept | given.keys())
    check_used(now.secret_names, (kept | given.keys()), signed=now.signed)
    return Checked(merged, given, frozenset(dropped), wants)


def _moved(kind: ToolKind, before: Mapping[str, Any], now: RemoteConfig) -> bool:
    return remote_config.origin(remote_config.read(kind, before)) != remote_config.origin(now)


def _check_own(kind: ToolKind, config: Mapping[str, Any]) -> None:
    """An own action may have part of its input fixed: `{"input": {…}}`."""
    if set(config) - {"input"}:
        raise InvalidInput(
            f"the configuration of a tool of kind {kind} has only input", attr="config"
        )
    schema = {k: v for k, v in INPUTS[kind].items() if k not in ("required", "minProperties")}
    wrong = schemas.objection(schema, config.get("input", {}))
    if wrong is not None:
        raise InvalidInput(f"config.input {wrong} the kind's input", attr="config.input")
