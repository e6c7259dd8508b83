"""The cases: reading them, what is asked of an implementation, and judging its answers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "cost"
QUESTION = ("client", "convention", "input", "event", "provider", "model", "time", "tier")


def load(folder: Path = FOLDER) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each case with its id, `file: name`."""
    for path in sorted(folder.glob("*.json")):
        for case in json.loads(path.read_text(encoding="utf-8"))["cases"]:
            yield f"{path.stem}: {case['name']}", case


def question(case: Mapping[str, Any]) -> dict[str, Any]:
    """What the implementation is told: everything but the expectation."""
    return {name: case[name] for name in QUESTION if name in case}


def faults(case: Mapping[str, Any], answer: Mapping[str, Any]) -> list[str]:
    """How an answer differs from the expectation; empty when it is right."""
    expected = case["expected"]
    return [
        *_differs("vector", _amounts(expected["vector"]), _amounts(answer.get("vector"))),
        *_differs("units", _amounts(expected.get("units", {})), _amounts(answer.get("units", {}))),
        *_cost_faults(expected, answer.get("cost")),
    ]


def _cost_faults(expected: Mapping[str, Any], cost: Any) -> list[str]:
    if cost is None:
        priced = expected["cost"] is not None and not expected.get("or_unpriced")
        return [f"cost: unpriced, expected {expected['cost']['total']}"] if priced else []
    if expected["cost"] is None:
        return [f"cost: {cost.get('total')}, expected none: {expected['unpriced']}"]
    wanted = expected["cost"]
    found = (
        []
        if "components" not in cost
        else _differs("components", _amounts(wanted["components"]), _amounts(cost["components"]))
    )
    return found + _differs(
        "total", _amounts({"total": wanted["total"]}), _amounts({"total": cost.get("total")})
    )


def _differs(what: str, wanted: object, found: object) -> list[str]:
    return [] if wanted == found else [f"{what}: {_shown(found)}, expected {_shown(wanted)}"]


def _amounts(values: Any) -> dict[str, Decimal | str] | None:
    """Amounts as exact numbers, zeros left out: what is not there is nothing."""
    if values is None:
        return None
    return {name: amount for name, value in values.items() if (amount := _amount(value))}


def _amount(value: Any) -> Decimal | str:
    try:
        return Decimal(str(value))
    except InvalidOperation:
        return f"not a number: {value!r}"


def _shown(amounts: Any) -> str:
    if amounts is None:
        return "none"
    return ", ".join(f"{name} {amount}" for name, amount in amounts.items()) or "nothing"
