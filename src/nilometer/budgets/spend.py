"""How budgets ask what was spent: a small port, over `calls` or over the rollups in DynamoDB."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Protocol

from nilometer.budgets.budget import BudgetScope


@dataclass(frozen=True, slots=True)
class Span:
    """The calls of a scope whose own time is from `start`, included, to `end`, not included.
    `first`: the time of the earliest of them is asked for, too."""

    scope: BudgetScope
    start: datetime
    end: datetime
    first: bool = False


@dataclass(frozen=True, slots=True)
class Spent:
    """What calls cost. `cost` is the exact sum over those whose cost is known; `unpriced` are
    those that succeeded and whose cost is not known, and are not in it. `first_at` is the time of
    the earliest call, where it was asked for and the store knows it."""

    cost: Decimal = Decimal(0)
    calls: int = 0
    unpriced: int = 0
    first_at: datetime | None = None


class Spend(Protocol):
    """Answers from what is stored now; nothing is counted along."""

    def of(self, spans: Sequence[Span]) -> list[Spent]:
        """What was spent in each span, in their order. A call counts once, at its own time, with
        the cost that it has now. Raises Unavailable when the store does not answer."""
        ...
