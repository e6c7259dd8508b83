"""Reading stored JSON: fast, and exact where money is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, cast

import orjson

from nilometer.pipeline.event_rows import COST_PROPERTIES

_COSTS = frozenset(COST_PROPERTIES)


def json_object(text: bytes | str) -> dict[str, Any]:
    """The object that a JSON text holds, numbers as Python's json reads them. Raises TypeError
    for another value and ValueError for no JSON."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        # The doors accept what Python's json does; orjson refuses numbers beyond a double.
        value = json.loads(text)
    if not isinstance(value, dict):
        raise TypeError("the record holds another JSON value where an object belongs")
    return cast("dict[str, Any]", value)


def has_inexact_costs(properties: Mapping[str, Any]) -> bool:
    """Whether a cost was read as a double."""
    return any(type(properties[name]) is float for name in _COSTS.intersection(properties))


def with_exact_costs(properties: dict[str, Any], text: bytes | str) -> dict[str, Any]:
    """The properties, costs that are JSON numbers read as Decimal from the properties' text."""
    if not has_inexact_costs(properties):
        return properties
    exact = json.loads(text, parse_float=Decimal)
    return properties | {name: exact[name] for name in COST_PROPERTIES if name in exact}
