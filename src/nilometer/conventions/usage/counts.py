"""Reading counts out of a source's object: exact, or a reason why not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, cast

from nilometer.conventions.typed_values import MAX_INT64, count
from nilometer.conventions.usage.layout import Count, Layout

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
    for known, names in layout.count_steps.of(raw):
        number: int | None = None
        for path, steps in names:
            value = raw.get(path) if len(steps) == 1 else _walk(raw, steps, path)
            if value is None:
                continue
            other = whole(value, path)
            if number and other and other != number:
                raise Unusable(f"contradictory_counts:{known}")
            number = number or other
        if number is not None:
            found[known] = number
    return found


def read_units(layout: Layout, raw: Mapping[str, Any]) -> dict[str, Decimal]:
    """What is counted besides tokens; zeros are left out. Raises Unusable."""
    found: dict[str, Decimal] = {}
    for unit, names in layout.unit_steps.of(raw):
        for path, steps in names:
            amount = _amount(_walk(raw, steps, path), path)
            if amount:
                found[unit] = amount
                break
    return found


def value_at(raw: Mapping[str, Any], path: str) -> Any:
    """What stands at a path, None when there is nothing; Unusable if a step is no object."""
    return _walk(raw, tuple(path.split("/")), path)


def whole(value: Any, path: str) -> int | None:
    """A count; None when it was not reported (null, or the NaN that JavaScript clients send)."""
    if type(value) is int and 0 <= value <= MAX_INT64:
        return value
    if value is None or _is_nan(value):
        return None
    number = count(value)
    if number is None:
        raise Unusable(f"invalid_count:{path}")
    return number


def _walk(raw: Mapping[str, Any], steps: tuple[str, ...], path: str) -> Any:
    value: Any = raw
    for step in steps:
        if value is None:
            return None
        if type(value) is not dict and not isinstance(value, Mapping):
            raise Unusable(f"invalid_count:{path}")
        value = cast("Mapping[str, Any]", value).get(step)
    return value


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
