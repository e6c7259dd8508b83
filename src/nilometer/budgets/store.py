"""Budgets as the server keeps them: made, changed, removed, with their entries in the audit log."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, TypedDict

from sqlalchemy import ColumnElement, delete, func, or_, select
from sqlalchemy.orm import Session

from nilometer.access import audit
from nilometer.access.bounds import check_room
from nilometer.access.lookup import live_project, new_id
from nilometer.access.tables import Project
from nilometer.access.types import OPERATOR, Action, Authority
from nilometer.budgets.budget import (
    DEFAULT_THRESHOLDS,
    Budget,
    BudgetScope,
    ScopeKind,
    plain,
)
from nilometer.budgets.periods import Period
from nilometer.budgets.tables import BudgetAlertRow, BudgetRow
from nilometer.database.engine import Database
from nilometer.database.fence import EVERY_ROW, rows_of_project
from nilometer.domain import clock
from nilometer.domain.identity import canonical_uuid
from nilometer.errors import InvalidInput, NotFound
from nilometer.notifications.outbox import check_channels

MAX_BUDGETS = 100
"""Of one project."""
MAX_ALERTS = 500
"""So many are listed at once."""

_CHANGED: Final = (
    "name",
    "amount",
    "thresholds",
    "rollover_cap",
    "hard_stop",
    "channels",
    "raise_exception",
)


class Changes(TypedDict, total=False):
    """What of a budget may be changed; what is not there stays. Scope, period and time zone stay
    for good: another one is another budget, with alerts of its own."""

    name: str
    amount: Decimal
    thresholds: tuple[int, ...]
    rollover_cap: Decimal | None
    hard_stop: bool
    channels: tuple[str, ...] | None
    raise_exception: bool


@dataclass(frozen=True, slots=True)
class StoredBudget:
    """A budget, whose it is, and its version (`updated_at`)."""

    budget: Budget
    project_id: int
    organization_id: str
    updated_at: datetime

    @property
    def is_global(self) -> bool:
        """Whether other projects' calls count, too."""
        return self.budget.scope.kind is ScopeKind.GLOBAL


@dataclass(frozen=True, slots=True)
class Alert:
    """A threshold that fired in a period, and how things stood then. With `lapsed_at` it may fire
    again: see `BudgetAlertRow`."""

    id: str
    budget_id: str
    project_id: int
    period_start: datetime
    period_end: datetime
    period_name: str
    threshold: int
    amount: Decimal
    spend_limit: Decimal
    spent: Decimal
    calls: int
    unpriced: int
    fired_at: datetime
    lapsed_at: datetime | None
    exception_id: str | None


class Budgets:
    """The budgets that an authority may act on. Blocks; safe between threads.

    Every method raises DatabaseUnavailable, and NotFound for a project that is not the authority's,
    or a budget that is not the project's.
    """

    def __init__(self, database: Database, authority: Authority = OPERATOR) -> None:
        self._database = database
        self._authority = authority

    def acting_as(self, authority: Authority) -> Budgets:
        """The same for somebody else."""
        return Budgets(self._database, authority)

    def add(
        self,
        project_id: int,
        *,
        name: str,
        scope: BudgetScope,
        amount: Decimal,
        period: Period,
        time_zone: str = "UTC",
        thresholds: tuple[int, ...] = DEFAULT_THRESHOLDS,
        rollover_cap: Decimal | None = None,
        hard_stop: bool = False,
        channels: tuple[str, ...] | None = None,
        raise_exception: bool = False,
    ) -> StoredBudget:
        """Add one. It is of the period at hand from its start. Raises InvalidInput, also for a name
        that another has (`name_taken`)."""
        now = clock.now()
        budget = Budget(
            *(new_id(), name.strip(), scope, amount, period),
            created_at=now,
            time_zone=time_zone,
            thresholds=thresholds,
            rollover_cap=rollover_cap,
            hard_stop=hard_stop,
            channels=channels,
            raise_exception=raise_exception,
        )
        with self._database.session(self._authority.rows) as session:
            project = live_project(session, self._authority, project_id)
            row = BudgetRow(id=budget.id, project_id=project_id, created_at=now, updated_at=now)
            _write(session, row, budget)
            count = select(func.count()).where(BudgetRow.project_id == project_id)
            check_room(session.scalar(count) or 0, MAX_BUDGETS, "budgets of this project")
            session.add(row)
            detail = {"name": budget.name, "scope": scope.kind, "period": period}
            self._record(session, Action.BUDGET_ADD, project, row, detail | _told(row))
            session.flush()
            return _stored(row, project.organization_id)

    def list(self, project_id: int) -> list[StoredBudget]:
        """A project's budgets, by name."""
        with self._database.read(self._authority.rows) as session:
            project = live_project(session, self._authority, project_id)
            query = select(BudgetRow).where(BudgetRow.project_id == project_id)
            rows = session.scalars(query.order_by(BudgetRow.name))
            return [_stored(row, project.organization_id) for row in rows]

    def get(self, project_id: int, budget_id: str) -> StoredBudget:
        """One budget."""
        with self._database.read(self._authority.rows) as session:
            project = live_project(session, self._authority, project_id)
            return _stored(_row(session, project_id, budget_id), project.organization_id)

    def change(self, project_id: int, budget_id: str, changes: Changes) -> StoredBudget:
        """Change what is given. A new amount holds for the period at hand, from its start; what has
        fired in it fires again only if the new amount has it not reached. Raises InvalidInput."""
        with self._database.session(self._authority.rows) as session:
            return change(session, self._authority, project_id, budget_id, changes)

    def remove(self, project_id: int, budget_id: str) -> StoredBudget:
        """Remove a budget and its alerts."""
        with self._database.session(self._authority.rows) as session:
            project = live_project(session, self._authority, project_id)
            row = _row(session, project_id, budget_id)
            removed = _stored(row, project.organization_id)
            self._record(session, Action.BUDGET_REMOVE, project, row, {"name": row.name})
            session.execute(delete(BudgetAlertRow).where(BudgetAlertRow.budget_id == row.id))
            session.delete(row)
            return removed

    def alerts(
        self, project_id: int, *, budget_id: str | None = None, limit: int = MAX_ALERTS
    ) -> list[Alert]:
        """A project's alerts, newest first; of one budget, where one is given."""
        query = select(BudgetAlertRow).where(BudgetAlertRow.project_id == project_id)
        order = (BudgetAlertRow.fired_at.desc(), BudgetAlertRow.threshold.desc(), BudgetAlertRow.id)
        with self._database.read(self._authority.rows) as session:
            live_project(session, self._authority, project_id)
            if budget_id is not None:
                query = query.where(
                    BudgetAlertRow.budget_id == _row(session, project_id, budget_id).id
                )
            return [_alert(row) for row in session.scalars(query.order_by(*order).limit(limit))]

    def stopping(self, project_id: int) -> list[StoredBudget]:
        """The budgets with a hard stop that calls of a project may count for: its own, and those of
        its organization that are global."""
        with self._database.read(self._authority.rows) as session:
            project = live_project(session, self._authority, project_id)
            everyones = (BudgetRow.scope_kind == ScopeKind.GLOBAL) & (
                Project.organization_id == project.organization_id
            )
            return _live(
                session,
                or_(BudgetRow.project_id == project_id, everyones),
                BudgetRow.hard_stop.is_(True),
            )

    def everything(self) -> list[StoredBudget]:
        """Every project's; for who evaluates them."""
        with self._database.read(EVERY_ROW) as session:
            return _live(session)

    def concerning(self, project_ids: Collection[int]) -> list[StoredBudget]:
        """The budgets that calls of any of these projects may count for; for who evaluates them."""
        organizations = select(Project.organization_id).where(Project.id.in_(project_ids))
        everyones = (BudgetRow.scope_kind == ScopeKind.GLOBAL) & (
            Project.organization_id.in_(organizations.scalar_subquery())
        )
        with self._database.read(EVERY_ROW) as session:
            return _live(session, or_(BudgetRow.project_id.in_(project_ids), everyones))

    def projects_of(self, organization_id: str) -> list[int]:
        """The projects whose calls count for a global budget of an organization."""
        query = select(Project.id).where(
            Project.organization_id == organization_id, Project.tombstoned_at.is_(None)
        )
        with self._database.read(EVERY_ROW) as session:
            return list(session.scalars(query.order_by(Project.id)))

    def forget(self, project_id: int) -> None:
        """Delete all budgets of a project and their alerts; for its deletion."""
        with self._database.session(rows_of_project(project_id)) as session:
            for table in (BudgetAlertRow, BudgetRow):
                session.execute(delete(table).where(table.project_id == project_id))

    def _record(
        self,
        session: Session,
        action: Action,
        project: Project,
        row: BudgetRow,
        detail: Mapping[str, Any],
    ) -> None:
        audit.record_of_project(
            session, self._authority, action, project, subject=row.id, detail=detail
        )


def change(
    session: Session, authority: Authority, project_id: int, budget_id: str, changes: Changes
) -> StoredBudget:
    """As `Budgets.change`, within the caller's transaction, which may write rows of the project."""
    project = live_project(session, authority, project_id)
    row = _row(session, project_id, budget_id, lock=True)
    before, told = _stored(row, project.organization_id), _told(row)
    budget = _changed(before.budget, changes)
    if budget != before.budget:
        _write(session, row, budget)
        row.updated_at = clock.now()
        now = _told(row)
        detail = {name: [told[name], now[name]] for name in told if told[name] != now[name]}
        audit.record_of_project(
            session, authority, Action.BUDGET_CHANGE, project, subject=row.id, detail=detail
        )
    return _stored(row, project.organization_id)


def named(session: Session, project_id: int, name: str) -> StoredBudget:
    """A project's budget by its name or its id. Raises NotFound."""
    query = select(BudgetRow, Project.organization_id).join(
        Project, Project.id == BudgetRow.project_id
    )
    query = query.where(BudgetRow.project_id == project_id, BudgetRow.name == name)
    found = session.execute(query).one_or_none()
    if found is None:
        row = _row(session, project_id, name)
        return _stored(row, session.get_one(Project, project_id).organization_id)
    return _stored(found[0], found[1])


def _live(session: Session, *conditions: ColumnElement[bool]) -> list[StoredBudget]:
    query = (
        select(BudgetRow, Project.organization_id)
        .join(Project, Project.id == BudgetRow.project_id)
        .where(Project.tombstoned_at.is_(None), *conditions)
    )
    rows = session.execute(query.order_by(BudgetRow.project_id, BudgetRow.name))
    return [_stored(row, organization_id) for row, organization_id in rows]


def _row(session: Session, project_id: int, budget_id: str, *, lock: bool = False) -> BudgetRow:
    """A budget's row; with `lock` nobody else changes it before this transaction has ended."""
    try:
        row = session.get(BudgetRow, canonical_uuid(budget_id), with_for_update=lock)
    except ValueError:
        row = None
    if row is None or row.project_id != project_id:
        raise NotFound("There is no such budget.", attr="budget_id")
    return row


def _changed(budget: Budget, changes: Changes) -> Budget:
    """The budget with its changes, and the amount that it had until now."""
    values: dict[str, Any] = {name: getattr(budget, name) for name in Budget.__slots__} | changes
    if unknown := set(changes) - set(_CHANGED):
        raise InvalidInput(
            f"{min(unknown)} cannot be changed; make another budget.", attr=min(unknown)
        )
    values["name"] = values["name"].strip()
    values["past_amounts"] = budget.past_with(values["amount"], clock.now())
    return Budget(**values)


def _write(session: Session, row: BudgetRow, budget: Budget) -> None:
    """Write a budget down, if its name is free and its channels are there."""
    same_name = select(BudgetRow.id).where(
        BudgetRow.project_id == row.project_id,
        BudgetRow.name == budget.name,
        BudgetRow.id != row.id,
    )
    if session.scalar(same_name) is not None:
        raise InvalidInput(
            "Another budget of this project has the name.", code="name_taken", attr="name"
        )
    channels = budget.channels
    row.channels = None if channels is None else check_channels(session, row.project_id, channels)
    row.name = budget.name
    row.scope_kind, row.scope_value = budget.scope.kind, budget.scope.value
    row.amount = budget.amount
    row.past_amounts = [[until.isoformat(), plain(past)] for until, past in budget.past_amounts]
    row.period, row.time_zone = budget.period, budget.time_zone
    row.thresholds = list(budget.thresholds)
    row.rollover_cap, row.hard_stop = budget.rollover_cap, budget.hard_stop
    row.raise_exception = budget.raise_exception


def _told(row: BudgetRow) -> dict[str, Any]:
    """What the audit log tells of; not the scope's value, which may be the name of a person."""
    cap = row.rollover_cap
    return {
        "name": row.name,
        "amount": plain(row.amount),
        "thresholds": list(row.thresholds),
        "rollover_cap": None if cap is None else plain(cap),
        "hard_stop": row.hard_stop,
        "raise_exception": row.raise_exception,
        "channels": None if row.channels is None else len(row.channels),
    }


def _stored(row: BudgetRow, organization_id: str) -> StoredBudget:
    budget = Budget(
        id=row.id,
        name=row.name,
        scope=BudgetScope(row.scope_kind, row.scope_value),
        amount=row.amount,
        period=row.period,
        created_at=row.created_at,
        time_zone=row.time_zone,
        thresholds=tuple(row.thresholds),
        rollover_cap=row.rollover_cap,
        hard_stop=row.hard_stop,
        channels=None if row.channels is None else tuple(row.channels),
        past_amounts=tuple(_past(row.past_amounts)),
        raise_exception=row.raise_exception,
    )
    return StoredBudget(budget, row.project_id, organization_id, row.updated_at)


def _past(stored: Iterable[list[str]]) -> Iterable[tuple[datetime, Decimal]]:
    return ((datetime.fromisoformat(until), Decimal(amount)) for until, amount in stored)


def _alert(row: BudgetAlertRow) -> Alert:
    return Alert(**{name: getattr(row, name) for name in Alert.__slots__})
