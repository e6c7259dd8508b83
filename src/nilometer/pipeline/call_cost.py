"""What a call consumed and what that costs, as columns of its row.

The vector follows from the record alone. A cost follows from the price book and the overrides of
the moment too, so it is stored with its source, version and date, and repricing writes another
revision.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

import orjson

from nilometer.conventions import usage
from nilometer.domain.usage import INPUT_BUCKETS, OUTPUT_BUCKETS, TokenVector, Usage
from nilometer.pricing import NO_OVERRIDES, Overrides, Priced, price

OverridesOf = Callable[[int], Overrides]
"""A project's price overrides, by its id."""

_VECTOR = (*INPUT_BUCKETS, *OUTPUT_BUCKETS, "input", "output", "total")
_BUCKETS = frozenset((*INPUT_BUCKETS, *OUTPUT_BUCKETS))
_AMOUNTS = tuple(
    f"cost_{name}"
    for name in (*INPUT_BUCKETS, *OUTPUT_BUCKETS, "input", "output", "units", "total")
)
_PRICE = (
    *("price_source", "price_version", "price_as_of", "price_reason"),
    *("priced_model", "priced_provider"),
)
COST_COLUMNS = (*_AMOUNTS, *_PRICE)
"""The columns of a call that follow from its price."""
_WHOLE_DIGITS, _DECIMALS = 20, 18  # of Decimal(38, 18)


def book_prices(_project_id: int) -> Overrides:
    """No overrides: the price book alone."""
    return NO_OVERRIDES


def usage_and_cost(
    name: str,
    properties: Mapping[str, Any],
    *,
    provider: str | None,
    model: str | None,
    at: datetime,
    convention: str,
    overrides: Overrides,
) -> dict[str, Any]:
    """The `vector_…`, `usage_…`, `service_tier`, `cost_…`, `price_…` and `priced_…` columns; those
    without a value are left out. `at` is when the call was made; `convention` is the raw usage's,
    "" to recognise it."""
    found = usage.read(
        properties, provider=provider, model=model, event=name, convention=convention or None
    )
    columns: dict[str, Any] = {"usage_convention": found.convention}
    if found.units:
        columns["usage_units"] = orjson.dumps(
            {unit: format(amount, "f") for unit, amount in sorted(found.units.items())}
        ).decode()
    tier = properties.get("$ai_service_tier")
    tier = tier if isinstance(tier, str) else ""
    priced = price(found, provider=provider, model=model, at=at, tier=tier, overrides=overrides)
    columns |= {"usage_reason": found.reason, "service_tier": tier}
    columns |= _vector(found.vector) | _cost(priced)
    return {column: value for column, value in columns.items() if value not in (None, "")}


def cost_of_call(call: Mapping[str, Any], overrides: Overrides) -> dict[str, Any]:
    """The `COST_COLUMNS` of a stored call, priced now: every one of them, amounts as Decimal."""
    usage_of_call = Usage(
        vector=_vector_of(call),
        convention=call["usage_convention"],
        reason=call["usage_reason"],
        units={unit: Decimal(n) for unit, n in orjson.loads(call["usage_units"]).items()},
    )
    priced = price(
        usage_of_call,
        provider=call["provider"],
        model=call["model"],
        at=call["timestamp"],
        tier=call["service_tier"],
        overrides=overrides,
    )
    found = _cost(priced)
    amounts = {
        name: None if (text := found.get(name)) is None else Decimal(text) for name in _AMOUNTS
    }
    return amounts | {name: found.get(name) or "" for name in _PRICE}


def _vector_of(call: Mapping[str, Any]) -> TokenVector | None:
    if call["vector_total"] is None:
        return None
    return TokenVector(
        **{name: call[f"vector_{name}"] for name in (*INPUT_BUCKETS, *OUTPUT_BUCKETS)}
    )


def _vector(vector: TokenVector | None) -> dict[str, int]:
    if vector is None:
        return {}
    return {f"vector_{name}": getattr(vector, name) for name in _VECTOR}


def _cost(priced: Priced) -> dict[str, str | None]:
    found = {
        "price_source": priced.source,
        "price_version": priced.version,
        "price_as_of": priced.as_of.isoformat() if priced.as_of else None,
        "priced_model": priced.model,
        "priced_provider": priced.provider,
    }
    if priced.costs is None:
        return found | {"price_reason": priced.reason}
    amounts = {name: cost for name, cost in priced.components.items() if name in _BUCKETS} | {
        "input": priced.costs.input,
        "output": priced.costs.output,
        "units": priced.costs.units,
        "total": priced.costs.total,
    }
    texts = {f"cost_{name}": _decimal_text(amount) for name, amount in amounts.items()}
    if None in texts.values():
        return found | {"price_reason": "cost_out_of_range"}
    return found | texts


def _decimal_text(amount: Decimal) -> str | None:
    """The amount as the column takes it; None where it would have to round, which is never done."""
    text = format(amount, "f")
    whole, _, fraction = text.partition(".")
    if len(fraction) > _DECIMALS:
        fraction = fraction.rstrip("0")
        text = f"{whole}.{fraction}"
    return text if len(fraction) <= _DECIMALS and len(whole) <= _WHOLE_DIGITS else None
