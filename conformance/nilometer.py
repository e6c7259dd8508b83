"""Nilometer's answers: a question a line in, an answer a line out."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from nilometer.conventions.usage import ADAPTERS, read
from nilometer.domain.usage import INPUT_BUCKETS, OUTPUT_BUCKETS, Usage
from nilometer.pricing import price


def usage_of(question: Mapping[str, Any]) -> Usage:
    """The usage of a question's input: an event's properties, or one source's object."""
    if question["convention"] == "event":
        return read(question["input"], event=question.get("event"))
    return ADAPTERS[question["convention"]](question["input"])


def answer(question: Mapping[str, Any]) -> dict[str, Any]:
    """The vector, the units and the exact cost, or why there is none."""
    usage = usage_of(question)
    priced = price(
        usage,
        provider=question["provider"],
        model=question["model"],
        at=datetime.fromisoformat(question["time"]),
        tier=question.get("tier", ""),
    )
    vector = usage.vector
    return {
        "vector": vector
        and {name: getattr(vector, name) for name in (*INPUT_BUCKETS, *OUTPUT_BUCKETS)},
        "units": _texts(usage.units),
        "reason": usage.reason,
        "cost": None
        if priced.total is None
        else {"components": _texts(priced.components), "total": format(priced.total, "f")},
        "unpriced": priced.reason,
    }


def _texts(amounts: Mapping[str, Decimal]) -> dict[str, str]:
    return {name: format(amount, "f") for name, amount in amounts.items()}


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)
