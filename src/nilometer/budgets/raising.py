"""What raises an exception, said to whoever accepts one in the same transaction.

Budgets and alert rules say what happened in these words and know nothing of incidents, which may
change budgets themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Raised:
    """An exception that is to be raised. `key` is the same however often it is tried; `actor` names
    what raises it: a budget or a rule. `payload` is JSON, money in it as exact decimal text."""

    exception_type: str
    severity: str
    occurred_at: datetime
    key: str
    actor: str
    payload: Mapping[str, Any] = field(repr=False)


Raise = Callable[[Session, int, Raised], str | None]
"""Accepts an exception of a project within the caller's transaction: its id, or None where nobody
handles exceptions."""


def unheard(session: Session, project_id: int, raised: Raised) -> str | None:
    """Where nobody handles exceptions: None."""
    del session, project_id, raised
    return None
