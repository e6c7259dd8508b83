"""The usual price, quickly: tokens alone, at whole units of 10^-18 USD.

`pricing.price` takes 40 microseconds a call, most of them for decimals and for what is rare. This
takes a sixth of them, by the same plans and the same rates, in integers that are exact; of all that
is not usual it says nothing, and its caller asks the other. A test compares the two.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import orjson

from nilometer.domain.usage import INPUT_BUCKETS
from nilometer.importers.trace_call import BUCKETS
from nilometer.pricing import NO_OVERRIDES, Overrides, Quote
from nilometer.pricing.book import current
from nilometer.pricing.exact import LARGEST_COUNT
from nilometer.pricing.plans import Plan, make_plan
from nilometer.pricing.rates import Rates

_UNIT = Decimal(10) ** 18
_DIGITS = 18
_INPUTS = len(INPUT_BUCKETS)
_MOST = 4096

Row = tuple[int | None, ...]


class QuickCost(NamedTuple):
    """An amount as decimal text, and the `price` of a row of the store: a JSON object's text."""

    total: str
    price: str


class _Known(NamedTuple):
    """A quote with its rows in units, and the beginning of its `price`."""

    quote: Quote
    rows: tuple[tuple[int, Row], ...]
    opening: str


class QuickPrices:
    """Prices by the book in use and, first, one's own."""

    def __init__(self, prices_file: Path | None) -> None:
        self._overrides = _overrides(prices_file)
        self._plans: dict[tuple[str | None, str | None, str, str], Plan] = {}
        self._known: dict[int, _Known | None] = {}
        self._kept: list[Quote] = []

    def cost(
        self,
        provider: str | None,
        model: str | None,
        tier: str,
        region: str,
        counts: tuple[int, ...],
        at: datetime,
    ) -> QuickCost | None:
        """What tokens cost, by bucket in the order of `BUCKETS`; None where that is not usual."""
        key = (provider, model, tier, region)
        plan = self._plans.get(key) or self._planned(key)
        quote = plan.at(at)
        known = self._known.get(id(quote)) or self._looked_at(quote)
        if known is None or sum(counts) > LARGEST_COUNT:
            return None
        total, parts = 0, ""
        for name, count, price in zip(BUCKETS, counts, _row(known.rows, counts), strict=True):
            if count:
                if price is None:
                    return None
                amount = count * price
                total += amount
                if amount:
                    parts += f',"{name}":"{text(amount)}"'
        components = f',"components":{{{parts[1:]}}}' if parts else ""
        return QuickCost(text(total), f"{known.opening}{components}}}")

    def _planned(self, key: tuple[str | None, str | None, str, str]) -> Plan:
        if len(self._plans) >= _MOST:
            self._plans.clear()
        plan = self._plans[key] = make_plan(current(), self._overrides, *key)
        return plan

    def _looked_at(self, quote: Quote) -> _Known | None:
        """Remembers a quote, which plans give again and again; it is kept, so that no other has
        its id."""
        if len(self._kept) >= _MOST:
            self._kept.clear()
            self._known.clear()
        self._kept.append(quote)
        known = self._known[id(quote)] = _known(quote)
        return known


def text(units: int) -> str:
    """An amount of units of 10^-18 USD as decimal text, without zeros at its end."""
    whole, rest = divmod(units, 10**_DIGITS)
    return f"{whole}.{rest:018d}".rstrip("0") if rest else str(whole)


def _row(rows: tuple[tuple[int, Row], ...], counts: tuple[int, ...]) -> Row:
    row = rows[0][1]
    if len(rows) > 1:
        size = sum(counts[:_INPUTS])
        for start, longer in rows[1:]:
            if size > start:
                row = longer
    return row


def _known(quote: Quote) -> _Known | None:
    rates = quote.rates
    if rates is None or not rates.by_tokens or "requests" in rates.units or not quote.source:
        return None
    rows = _rows(rates)
    if rows is None:
        return None
    told = {
        "source": quote.source,
        "version": quote.version,
        "as_of": quote.as_of,
        "provider": quote.provider,
        "model": quote.model,
    }
    named = {name: value for name, value in told.items() if value}
    return _Known(quote, rows, orjson.dumps(named).decode()[:-1])


def _rows(rates: Rates) -> tuple[tuple[int, Row], ...] | None:
    found: list[tuple[int, Row]] = []
    for start, row in rates.rows:
        units = [None if price is None else price * _UNIT for price in row]
        if any(price is not None and price != int(price) for price in units):
            return None
        found.append((start, tuple(None if price is None else int(price) for price in units)))
    return tuple(found)


def _overrides(file: Path | None) -> Overrides:
    if file is None:
        return NO_OVERRIDES
    from nilometer.pricing.files import load

    return Overrides(load(file))
