"""What a call consumed and what that costs, as columns of its row.

The vector follows from the record alone. A cost follows from the price book and the overrides of
the moment too, so it is stored with its source, version and date, and repricing writes another
revision.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, cast

import orjson

from nilometer.conventions import usage
from nilometer.domain.usage import INPUT_BUCKETS, OUTPUT_BUCKETS, TokenVector, Usage
from nilometer.pricing import NO_OVERRIDES, Overrides, Priced, Quote, price

OverridesOf = Callable[[int], Overrides]
"""A project's price overrides, by its id."""

_VECTOR = tuple(
    f"vector_{name}" for name in (*INPUT_BUCKETS, *OUTPUT_BUCKETS, "input", "output", "total")
)
_COST_OF = {name: f"cost_{name}" for name in (*INPUT_BUCKETS, *OUTPUT_BUCKETS)}
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
    columns: dict[str, Any] = {}
    if found.convention:
        columns["usage_convention"] = found.convention
    if found.units:
        columns["usage_units"] = orjson.dumps(
            {unit: format(amount, "f") for unit, amount in sorted(found.units.items())}
        ).decode()
    tier = properties.get("$ai_service_tier")
    tier = tier if isinstance(tier, str) else ""
    priced = price(found, provider=provider, model=model, at=at, tier=tier, overrides=overrides)
    if found.reason:
        columns["usage_reason"] = found.reason
    if tier:
        columns["service_tier"] = tier
    return columns | _vector(found.vector) | _cost(priced)


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
    counts = vector.counts
    entered, left = sum(counts[: len(INPUT_BUCKETS)]), sum(counts[len(INPUT_BUCKETS) :])
    return dict(zip(_VECTOR, (*counts, entered, left, entered + left), strict=True))


def _cost(priced: Priced) -> dict[str, str]:
    """The `COST_COLUMNS` that have a value."""
    found = _price_columns(priced.quote)
    costs = priced.costs
    if costs is None:
        return found | {"price_reason": priced.reason} if priced.reason else found
    amounts = {_COST_OF[name]: cost for name, cost in costs.components.items() if name in _COST_OF}
    amounts["cost_input"] = costs.input
    amounts["cost_output"] = costs.output
    amounts["cost_units"] = costs.units
    amounts["cost_total"] = costs.total
    texts = {column: _decimal_text(amount) for column, amount in amounts.items()}
    if None in texts.values():
        return found | {"price_reason": "cost_out_of_range"}
    return found | cast("dict[str, str]", texts)


def _price_columns(quote: Quote) -> dict[str, str]:
    columns = {
        "price_source": quote.source,
        "price_version": quote.version,
        "price_as_of": quote.as_of.isoformat() if quote.as_of else "",
        "priced_model": quote.model,
        "priced_provider": quote.provider,
    }
    return {column: value for column, value in columns.items() if value}


def _decimal_text(amount: Decimal) -> str | None:
    """The amount as the column takes it; None where it would have to round, which is never done."""
    text = format(amount, "f")
    if len(text) <= _WHOLE_DIGITS:  # "0." and as many digits as may follow it
        return text
    whole, _, fraction = text.partition(".")
    if len(fraction) > _DECIMALS:
        fraction = fraction.rstrip("0")
        text = f"{whole}.{fraction}"
    return text if len(fraction) <= _DECIMALS and len(whole) <= _WHOLE_DIGITS else None
