"""How budgets with a hard stop stand, as whoever evaluates them says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple, Protocol


def can_be_asked(url: str) -> bool:
    """Whether budgets may be known at a sink's URL."""
    return url.partition(":")[0] in ("http", "https", "dynamodb")


class Subject(NamedTuple):
    """What of a call decides which budgets it counts for. `models` are the names that it goes by:
    what was asked for and, afterwards, what answered."""

    service: str
    models: tuple[str, ...]
    user: str | None
    job: str | None
    environment: str | None


@dataclass(frozen=True, slots=True)
class Standing:
    """A budget with a hard stop in its current period: dollars spent, of so many that it has."""

    id: str
    name: str
    kind: str
    value: str
    spent: Decimal
    limit: Decimal
    period_start: datetime
    period_end: datetime

    def covers(self, subject: Subject) -> bool:
        """Whether such a call counts for it. Values are compared whole, services in any case."""
        match self.kind:
            case "global" | "project":
                return True
            case "service":
                return subject.service.lower() == self.value.lower()
            case "model":
                return self.value in subject.models
            case "user":
                return subject.user == self.value
            case "job":
                return subject.job == self.value
            case "environment":
                return subject.environment == self.value
            case _:  # a kind of a later release
                return False


class Standings(Protocol):
    """Who can be asked. Used by one thread at a time."""

    def ask(self) -> Sequence[Standing]:
        """Every budget with a hard stop. Blocks for seconds at most; raises Unavailable, or what
        the network raises."""
        ...

    def close(self) -> None:
        """Let go of the connections."""
        ...
