"""From a call to a row of the store: priced by the book (docs/prices.md)."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from nilometer.domain import clock
from nilometer.domain.usage import Usage
from nilometer.importers.store.columns import STORED_NAMES, Row
from nilometer.importers.telling import CACHED, bounded, told
from nilometer.importers.trace_call import TraceCall
from nilometer.sdk.calculator import Cost, CostCalculator
from nilometer.usage.report.report import money

if TYPE_CHECKING:
    from nilometer.importers.quick_prices import QuickPrices

FAILED = "failed_call"
"""Why a call that failed without a usage has no cost."""

_FREE = Cost(Decimal(0), source=CACHED)
_NOTHING = Cost(None, reason=FAILED)
_COST, _REPORTED, _OUTCOME = map(STORED_NAMES.index, ("cost_usd", "cost_reported_usd", "status"))


@dataclass(frozen=True, slots=True)
class PricedRows:
    """Rows, and how many of their calls are unpriced: did not fail, at an unknown cost."""

    rows: list[Row]
    unpriced: int


class Pricer:
    """Makes rows: each with its price."""

    def __init__(self, prices_file: Path | None = None) -> None:
        self.calculator = CostCalculator(prices_file)
        self._quick = _quick(prices_file)

    def rows(self, calls: Sequence[TraceCall]) -> PricedRows:
        """The rows of calls, in their order."""
        rows = [self._row(call) for call in map(bounded, calls)]
        unpriced = sum(
            row[_COST] is None and row[_OUTCOME] != "error" and not _is_amount(row[_REPORTED])
            for row in rows
        )
        return PricedRows(rows, unpriced)

    def _row(self, call: TraceCall) -> Row:
        if self._quick is not None and call.tokens and call.counts_usage and not call.units:
            names = (call.provider, call.resolved_model or call.model, call.tier, call.region)
            found = self._quick.cost(*names, call.tokens, _priced_at(call))
            if found is not None:
                return _row(call, found.total, found.price)
        cost = cost_of(call, self.calculator)
        return _row(call, money(cost.total), orjson.dumps(_price(cost)).decode())


def _quick(prices_file: Path | None) -> QuickPrices | None:
    """None where no price book is installed."""
    if importlib.util.find_spec("genai_prices") is None:
        return None
    from nilometer.importers.quick_prices import QuickPrices

    return QuickPrices(prices_file)


def trace_hash(call: TraceCall) -> str:
    """The identity of a call, the same for every copy of its record."""
    return f"{call.source}:{call.key}"


def cost_of(call: TraceCall, calculator: CostCalculator) -> Cost:
    """What a call cost, or why that is not known: by the model that answered, else by the one that
    was asked."""
    if call.from_cache:
        return _FREE
    if call.failed and call.tokens is None:
        return _NOTHING
    usage = usage_of(call)
    cost = _by(call.resolved_model or call.model, usage, call, calculator)
    if cost.total is None and call.resolved_model and call.model:
        asked = _by(call.model, usage, call, calculator)
        return asked if asked.total is not None else cost
    return cost


def usage_of(call: TraceCall) -> Usage:
    """What it consumed, as prices are made of it."""
    units = {name: Decimal(quantity) for name, quantity in call.units}
    return Usage(
        vector=call.vector,
        convention=call.usage_convention,
        reason=call.usage_reason,
        units=units,
    )


def _by(model: str | None, usage: Usage, call: TraceCall, calculator: CostCalculator) -> Cost:
    return calculator.of(
        usage,
        service=call.provider,
        model=model,
        at=_priced_at(call),
        tier=call.tier,
        region=call.region,
    )


def _row(call: TraceCall, cost: str | None, price: str) -> Row:
    """In the order of `columns.STORED`."""
    values, details, completeness = told(call)
    at = clock.from_micros(call.started_at).isoformat(timespec="microseconds")
    return (
        *(trace_hash(call), *values[:2], at, *values[2:10], cost, *values[10:], completeness),
        *(orjson.dumps(details, option=orjson.OPT_SORT_KEYS).decode(), price),
    )


def _priced_at(call: TraceCall) -> datetime:
    """When the record was written that its usage is from: so that the price is the same however
    many records of the call were read at once."""
    return clock.from_micros(call.started_at if call.told_at is None else call.told_at)


def _price(cost: Cost) -> dict[str, Any]:
    found = {
        "source": cost.source,
        "version": cost.version,
        "as_of": cost.as_of,
        "provider": cost.service,
        "model": cost.model,
        "reason": cost.reason,
        "components": {part: money(amount) for part, amount in cost.components.items()},
    }
    return {name: value for name, value in found.items() if value}


def _is_amount(reported: Any) -> bool:
    """Whether a cost is reported: a reported 0 is how some say that they know no price."""
    return reported is not None and bool(Decimal(reported))
