"""Reading counts out of a source's object: exact, or a reason why not."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, cast

from nilometer.conventions.typed_values import MAX_INT64, count
from nilometer.conventions.usage.layout import Count, Layout, Paths

MAX_UNITS = Decimal(MAX_INT64)

Counts = dict[Count, int]


class Unusable(Exception):
    """The usage cannot be read; `reason` is the code that goes into `Usage.reason`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def read_counts(layout: Layout, raw: Mapping[str, Any]) -> Counts:
    """The counts that the object reports; one that it does not is not in the result.

    Raises Unusable for a value that is no whole number from 0 to 2^63-1 (a bool, a fraction, a
    string) and for names of one count that differ.
    """
    found: Counts = {}
    for known, paths in layout.counts.items():
        number = agreed(known, (whole(value_at(raw, path), path) for path in paths))
        if number is not None:
            found[known] = number
    return found


def read_units(units: Mapping[str, Paths], raw: Mapping[str, Any]) -> dict[str, Decimal]:
    """What is counted besides tokens; zeros are left out."""
    found: dict[str, Decimal] = {}
    for unit, paths in units.items():
        for path in paths:
            amount = _amount(value_at(raw, path), path)
            if amount:
                found[unit] = amount
                break
    return found


def value_at(raw: Mapping[str, Any], path: str) -> Any:
    """What stands at a path, None when there is nothing; Unusable if a step is no object."""
    value: Any = raw
    for step in path.split("/"):
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise Unusable(f"invalid_count:{path}")
        value = cast("Mapping[str, Any]", value).get(step)
    return value


def whole(value: Any, path: str) -> int | None:
    """A count; None when it was not reported (null, or the NaN that JavaScript clients send)."""
    if value is None or _is_nan(value):
        return None
    number = None if isinstance(value, bool) else count(value)
    if number is None:
        raise Unusable(f"invalid_count:{path}")
    return number


def agreed(known: str, numbers: Iterable[int | None]) -> int | None:
    """The one number that all names of a count give, zeros giving way to others."""
    reported = [number for number in numbers if number is not None]
    distinct = {number for number in reported if number}
    if len(distinct) > 1:
        raise Unusable(f"contradictory_counts:{known}")
    return distinct.pop() if distinct else (0 if reported else None)


def _amount(value: Any, path: str) -> Decimal | None:
    if value is None or _is_nan(value):
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
        raise Unusable(f"invalid_count:{path}")
    amount = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    if not amount.is_finite() or not 0 <= amount <= MAX_UNITS:
        raise Unusable(f"invalid_count:{path}")
    return amount


def _is_nan(value: Any) -> bool:
    if isinstance(value, Decimal):
        return value.is_nan()
    return isinstance(value, float) and math.isnan(value)
