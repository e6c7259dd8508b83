"""What a pass has found so far: counts and sums of dollars, by a label of the pass's choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import orjson

from nilometer.pricing.exact import EXACT

MOST_LABELS = 1000
"""Names in labels are the senders' to choose, so what is kept of them is bounded."""

OTHERS = "(others)"

Label = tuple[str | None, ...]


class Findings:
    """Counts (int) and exact sums (Decimal) by label and name. What comes after `MOST_LABELS`
    labels is counted under `OTHERS`."""

    def __init__(self, amounts: Mapping[Label, Mapping[str, int | Decimal]] | None = None) -> None:
        self._amounts = {label: dict(named) for label, named in (amounts or {}).items()}

    def add(self, label: Label, **amounts: int | Decimal) -> None:
        """Add amounts to those of a label."""
        if label not in self._amounts and len(self._amounts) >= MOST_LABELS:
            label = (OTHERS,) * len(label)
        named = self._amounts.setdefault(label, {})
        for name, amount in amounts.items():
            named[name] = _sum(named.get(name, 0), amount)

    def update(self, other: Findings) -> None:
        """Add what another has."""
        for label, named in other._amounts.items():
            self.add(label, **named)

    def items(self) -> Sequence[tuple[Label, Mapping[str, int | Decimal]]]:
        """Labels with their amounts, in the order of the labels."""
        return sorted(self._amounts.items(), key=lambda item: tuple(map(str, item[0])))

    def to_json(self) -> dict[str, dict[str, int | str]]:
        """As a JSON object: sums of dollars are text, counts are numbers."""
        return {
            orjson.dumps(label).decode(): {
                name: format(amount, "f") if isinstance(amount, Decimal) else amount
                for name, amount in named.items()
            }
            for label, named in self._amounts.items()
        }

    @classmethod
    def from_json(cls, members: Mapping[str, Mapping[str, Any]]) -> Findings:
        """Those that `to_json` wrote."""
        return cls(
            {
                tuple(orjson.loads(label)): {
                    name: Decimal(amount) if isinstance(amount, str) else amount
                    for name, amount in named.items()
                }
                for label, named in members.items()
            }
        )


def _sum(first: int | Decimal, second: int | Decimal) -> int | Decimal:
    if isinstance(first, int) and isinstance(second, int):
        return first + second
    return EXACT.add(Decimal(first), Decimal(second))
