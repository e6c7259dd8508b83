"""Budgets and spend for tests."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

from nilometer.budgets.budget import Budget, BudgetScope, ScopeKind
from nilometer.budgets.periods import Period
from nilometer.budgets.spend import Span, Spent

PROJECT = BudgetScope(ScopeKind.PROJECT)


def utc(year: int, month: int, day: int, hour: int = 0, minute: int = 0) -> datetime:
    return datetime(year, month, day, hour, minute, tzinfo=UTC)


def budget(**given: Any) -> Budget:
    values: dict[str, Any] = {
        "id": str(uuid4()),
        "name": "test",
        "scope": PROJECT,
        "amount": Decimal(100),
        "period": Period.MONTH,
        "created_at": utc(2020, 1, 1),
    }
    return Budget(**{**values, **given})


class Ledger:
    """A `Spend` over calls that are listed: when, what they cost (None: unpriced), whose."""

    def __init__(self, *calls: tuple[datetime, str | None]) -> None:
        self.calls = list(calls)
        self.asked: list[Span] = []

    def of(self, spans: Sequence[Span]) -> list[Spent]:
        self.asked += spans
        return [self._spent(span) for span in spans]

    def _spent(self, span: Span) -> Spent:
        within = [(at, cost) for at, cost in self.calls if span.start <= at < span.end]
        costs = [Decimal(cost) for _, cost in within if cost is not None]
        return Spent(
            cost=sum(costs, Decimal(0)),
            calls=len(within),
            unpriced=len(within) - len(costs),
            first_at=min((at for at, _ in within), default=None),
        )
