"""Prices of an operator's own, kept in the database: a project's, and those of all projects."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from nilometer.access import audit
from nilometer.access.bounds import check_room
from nilometer.access.lookup import live_organization, live_project, new_id
from nilometer.access.tables import PriceOverride
from nilometer.access.types import OPERATOR, Action, Authority
from nilometer.database.engine import Database
from nilometer.database.fence import EVERY_ROW
from nilometer.domain import clock
from nilometer.domain.identity import canonical_uuid
from nilometer.errors import NotFound, Unavailable
from nilometer.pricing.overrides import Override, Overrides, Scope, check_overlaps, made

MAX_OVERRIDES = 1000
"""Of one project, and of all projects."""


class PriceOverrides:
    """The overrides that an authority may act on. Blocks; safe between threads.

    `project_id` None stands for those of all projects, which are the operator's: who may call with
    it is for the caller to check. Every method raises DatabaseUnavailable, and NotFound for a
    project that is not the authority's.
    """

    def __init__(self, database: Database, authority: Authority = OPERATOR) -> None:
        self._database = database
        self._authority = authority

    def list(self, project_id: int | None) -> list[Override]:
        """The overrides of a project, or of all projects, by provider, model and date."""
        with self._database.read(self._authority.rows) as session:
            if project_id is not None:
                live_project(session, self._authority, project_id)
            return _read(session, project_id)

    def everything(self) -> list[Override]:
        """Every project's and the operator's; for who prices."""
        with self._database.read(EVERY_ROW) as session:
            return [_override(row) for row in session.scalars(select(PriceOverride))]

    def add(
        self,
        project_id: int | None,
        *,
        provider: str,
        model: str,
        effective_from: datetime,
        effective_to: datetime | None = None,
        **prices: Any,
    ) -> Override:
        """Add one; `prices` are the other arguments of `nilometer.pricing.overrides.made`.

        Raises InvalidInput, which says what to change; also where it overlaps another.
        """
        override = made(
            id=new_id(),
            provider=provider,
            model=model,
            effective_from=effective_from,
            effective_to=effective_to,
            project_id=project_id,
            scope=_scope(project_id),
            **prices,
        )
        with self._database.session(self._authority.rows) as session:
            self._record(session, Action.PRICE_OVERRIDE_ADD, override)
            others = _read(session, project_id)
            check_room(len(others), MAX_OVERRIDES, "price overrides")
            check_overlaps([*others, override])
            session.add(_row(override))
        return override

    def remove(self, project_id: int | None, override_id: str) -> Override:
        """Remove one: what it priced is priced as if it had never been, when it is priced again.

        Raises NotFound, the same for another project's and none.
        """
        with self._database.session(self._authority.rows) as session:
            if project_id is not None:
                live_project(session, self._authority, project_id)
            query = _of(project_id).where(PriceOverride.id == _canonical(override_id))
            row = session.scalar(query)
            if row is None:
                raise _unknown()
            override = _override(row)
            self._record(session, Action.PRICE_OVERRIDE_REMOVE, override)
            session.delete(row)
        return override

    def _record(self, session: Session, action: Action, override: Override) -> None:
        detail = {"provider": override.provider[:200], "model": override.model[:200]}
        if override.project_id is None:
            organization = live_organization(session, self._authority, None)
            audit.record(
                session,
                self._authority,
                action,
                organization_id=organization.id,
                subject=override.id,
                detail=detail,
            )
            return
        project = live_project(session, self._authority, override.project_id)
        audit.record_of_project(
            session, self._authority, action, project, subject=override.id, detail=detail
        )


class CurrentOverrides:
    """What holds for each project now: the database's overrides and the file's, at most `max_age`
    seconds old. While the database is away the last known stay. Safe between threads; may block.
    """

    def __init__(
        self, source: PriceOverrides, file: Sequence[Override] = (), max_age: float = 5
    ) -> None:
        self._source = source
        self._file = list(file)
        self._max_age = max_age
        self._lock = threading.Lock()
        self._known: list[Override] | None = None
        self._read_at = 0.0
        self._by_project: dict[int, Overrides] = {}

    def of(self, project_id: int) -> Overrides:
        """The overrides of a project. The same object as before while nothing changed, so that
        what was planned with it is used again. Raises DatabaseUnavailable, before the first read
        only."""
        with self._lock:
            self._refresh()
            found = self._by_project.get(project_id)
            if found is None:
                found = Overrides(self._known or ()).for_project(project_id)
                self._by_project[project_id] = found
            return found

    def renew(self) -> None:
        """Have the next `of` read them again, however young they are."""
        with self._lock:
            self._read_at = -math.inf

    def _refresh(self) -> None:
        if self._known is not None and time.monotonic() - self._read_at < self._max_age:
            return
        self._read_at = time.monotonic()
        try:
            found = [*self._source.everything(), *self._file]
        except Unavailable:
            if self._known is None:
                raise
            return
        if found != self._known:
            self._known, self._by_project = found, {}


def _read(session: Session, project_id: int | None) -> list[Override]:
    order = (PriceOverride.provider, PriceOverride.model, PriceOverride.effective_from)
    return [_override(row) for row in session.scalars(_of(project_id).order_by(*order))]


def _of(project_id: int | None) -> Select[PriceOverride]:
    column = PriceOverride.project_id
    mine = column.is_(None) if project_id is None else column == project_id
    return select(PriceOverride).where(mine)


def _scope(project_id: int | None) -> Scope:
    return Scope.OPERATOR if project_id is None else Scope.PROJECT


def _override(row: PriceOverride) -> Override:
    return made(
        id=row.id,
        provider=row.provider,
        model=row.model,
        effective_from=row.effective_from,
        effective_to=row.effective_to,
        per_million_tokens=row.per_million_tokens,
        per_unit=row.per_unit,
        alias=row.alias,
        region=row.region,
        tier=row.tier,
        project_id=row.project_id,
        scope=_scope(row.project_id),
    )


def _row(override: Override) -> PriceOverride:
    return PriceOverride(
        id=override.id,
        project_id=override.project_id,
        provider=override.provider,
        model=override.model,
        effective_from=override.effective_from,
        effective_to=override.effective_to,
        per_million_tokens=_texts(override.per_million_tokens),
        per_unit=_texts(override.per_unit),
        alias="/".join(override.alias) if override.alias else None,
        region=override.region,
        tier=override.tier,
        created_at=clock.now(),
    )


def _texts(prices: Mapping[str, Any]) -> dict[str, str]:
    return {name: f"{price:f}" for name, price in prices.items()}


def _canonical(override_id: str) -> str:
    try:
        return canonical_uuid(override_id)
    except ValueError:
        raise _unknown() from None


def _unknown() -> NotFound:
    return NotFound("There is no such price override.", attr="override_id")
