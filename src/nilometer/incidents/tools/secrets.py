"""The secrets of a tool: what they may be, and for where they were given.

A secret goes to one place. Who moves a tool to another host gives its secrets again: a person who
may change a tool and never sees its secrets must not have them sent to himself.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from nilometer.errors import InvalidInput
from nilometer.incidents.tools.resolving import SIGNING
from nilometer.incidents.tools.tables import ToolSecretRow
from nilometer.notifications import signature

MAX_SECRET = 4096
MAX_SECRETS = 20
"""Of one tool: each text of an input and an answer is searched for all of them."""
MAX_OVERLAP = timedelta(days=7)

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


def checked_secrets(given: Mapping[str, str]) -> dict[str, str]:
    """The secrets, by name. Raises InvalidInput, which repeats no value."""
    for name, value in given.items():
        if not _NAME.fullmatch(name):
            raise InvalidInput(
                "a secret's name is small letters, digits and '_', and begins with a letter",
                attr="secrets",
            )
        attr = f"secrets.{name}"
        if name == SIGNING:
            signature.checked_secret(value)
        elif not 1 <= len(value) <= MAX_SECRET or not value.isascii() or not value.isprintable():
            raise InvalidInput(
                f"a secret is 1 to {MAX_SECRET} printable ASCII characters", attr=attr
            )
    return dict(given)


def check_number(names: Collection[str]) -> None:
    """Raises InvalidInput for more than a tool may have."""
    if len(names) > MAX_SECRETS:
        raise InvalidInput(
            f"a tool has at most {MAX_SECRETS} secrets: put those that go together into one",
            attr="secrets",
        )


def check_used(needed: set[str], there: set[str], *, signed: bool) -> None:
    """Raises InvalidInput unless what is set is what the tool takes."""
    if SIGNING in needed:
        raise InvalidInput("the secret to sign with is never sent", attr="config")
    for name in sorted(needed - there):
        raise InvalidInput(f"the tool takes the secret {name}: give it", attr=f"secrets.{name}")
    for name in sorted(there - needed - ({SIGNING} if signed else set[str]())):
        raise InvalidInput("the tool takes no secret of this name", attr=f"secrets.{name}")


def stored_names(session: Session, project_id: int, tool: str | None = None) -> dict[str, set[str]]:
    """The names of the secrets that are set, by tool."""
    query = select(ToolSecretRow.tool, ToolSecretRow.name)
    query = query.where(ToolSecretRow.project_id == project_id)
    if tool is not None:
        query = query.where(ToolSecretRow.tool == tool)
    found: dict[str, set[str]] = {}
    for owner, name in session.execute(query):
        found.setdefault(owner, set()).add(name)
    return found


def keep(
    session: Session, project_id: int, tool: str, given: Mapping[str, str], now: datetime
) -> None:
    """Set these; others stay."""
    for name, value in given.items():
        row = session.get(ToolSecretRow, (project_id, tool, name))
        if row is None:
            row = ToolSecretRow(project_id=project_id, tool=tool, name=name, created_at=now)
            session.add(row)
        row.value, row.previous, row.previous_until, row.created_at = value, None, None, now


def rotate(
    session: Session, project_id: int, tool: str, secret: str | None, until: datetime, now: datetime
) -> str:
    """Put another secret to sign with, by default a random one, in the place of the tool's, which
    signs as well until then; the new one. Raises InvalidInput for a tool that does not sign."""
    row = session.get(ToolSecretRow, (project_id, tool, SIGNING))
    if row is None:
        raise InvalidInput("only a tool that signs has a secret to rotate", attr="tool")
    new = signature.new_secret() if secret is None else signature.checked_secret(secret)
    row.previous, row.previous_until = row.value, until
    row.value, row.created_at = new, now
    return new


def drop(
    session: Session, project_id: int, tool: str, names: Collection[str] | None = None
) -> None:
    """Delete a tool's secrets; those of these names, where they are given."""
    mine = (ToolSecretRow.project_id == project_id) & (ToolSecretRow.tool == tool)
    query = delete(ToolSecretRow).where(mine)
    if names is not None:
        query = query.where(ToolSecretRow.name.in_(names))
    session.execute(query)
