"""What each bucket and unit of a call costs, and the sum: exact, or a reason why there is none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from nilometer.domain.usage import INPUT_BUCKETS, OUTPUT_BUCKETS, Usage
from nilometer.pricing.exact import EXACT, LARGEST_COUNT, ZERO, of_units, per_token

BUCKETS = (*INPUT_BUCKETS, *OUTPUT_BUCKETS)
MEASURES = frozenset({"images", "audio_seconds", "characters"})
"""Units that measure what tokens already pay for, where a call is paid by tokens."""

_INPUTS = len(INPUT_BUCKETS)
_SIDES = tuple((bucket, bucket in OUTPUT_BUCKETS) for bucket in BUCKETS)
Row = tuple[Decimal | None, ...]


@dataclass(frozen=True, slots=True)
class UnitRate:
    """Dollars for every `per` units; at least `minimum` units are billed, if any are."""

    price: Decimal
    per: int = 1
    minimum: Decimal = ZERO

    def cost(self, quantity: Decimal) -> Decimal:
        """What `quantity` units cost."""
        return of_units(max(quantity, self.minimum), self.price, self.per)


@dataclass(frozen=True, slots=True)
class Costs:
    """What a call cost, in dollars. `components` has what is not zero, by bucket and unit."""

    components: Mapping[str, Decimal]
    input: Decimal
    output: Decimal
    units: Decimal

    @property
    def total(self) -> Decimal:
        """All of it."""
        return EXACT.add(EXACT.add(self.input, self.output), self.units)


@dataclass(frozen=True, slots=True)
class Rates:
    """The prices of one model at one moment, in one tier.

    `rows` has dollars per token in the order of BUCKETS, None where there is no price: one row for
    each long-context threshold, the first from 0. The whole call is billed by the row of the last
    threshold that all its input, cached or not, exceeds.
    """

    rows: tuple[tuple[int, Row], ...]
    units: Mapping[str, UnitRate] = field(default_factory=dict[str, UnitRate])
    by_tokens: bool = field(init=False)
    """Whether any token has a price."""

    def __post_init__(self) -> None:
        priced = any(price is not None for price in self.rows[0][1])
        object.__setattr__(self, "by_tokens", priced)

    def costs(self, usage: Usage) -> Costs | str:
        """What a call cost, or a reason: `no_usage`, `usage_out_of_range`, or
        `component_unpriced:` and the bucket or unit that has no price."""
        vector = usage.vector
        if vector is None and self.by_tokens:
            return "no_usage"
        components: dict[str, Decimal] = {}
        inputs = outputs = ZERO
        if vector is not None:
            charges = self._tokens(vector.counts, components)
            if isinstance(charges, str):
                return charges
            inputs, outputs = charges
        units = ZERO
        if usage.units or "requests" in self.units:
            paid = bool(components) and self.by_tokens
            charged = self._units(usage.units, paid_by_tokens=paid)
            if isinstance(charged, str):
                return charged
            for cost in charged.values():
                units = EXACT.add(units, cost)
            components |= charged
        if not components and not self.by_tokens:
            return "no_usage"  # nothing that is billed was measured: no proof that it was free
        return Costs(components, inputs, outputs, units)

    def _tokens(
        self, counts: tuple[int, ...], components: dict[str, Decimal]
    ) -> tuple[Decimal, Decimal] | str:
        """Add the cost of each bucket to `components`: input and output, summed, or a reason."""
        if sum(counts) > LARGEST_COUNT:
            return "usage_out_of_range"
        sums = [ZERO, ZERO]
        for (bucket, side), count, price in zip(_SIDES, counts, self._row(counts), strict=True):
            if count:
                if price is None:
                    return f"component_unpriced:{bucket}"
                components[bucket] = cost = EXACT.multiply(price, count)
                sums[side] = EXACT.add(sums[side], cost)
        return sums[0], sums[1]

    def _row(self, counts: tuple[int, ...]) -> Row:
        row = self.rows[0][1]
        if len(self.rows) > 1:
            size = sum(counts[:_INPUTS])
            for start, longer in self.rows[1:]:
                if size > start:
                    row = longer
        return row

    def _units(
        self, units: Mapping[str, Decimal], *, paid_by_tokens: bool
    ) -> dict[str, Decimal] | str:
        charged: dict[str, Decimal] = {}
        for name, quantity in units.items():
            if not quantity.is_finite() or not 0 <= quantity <= LARGEST_COUNT:
                return "usage_out_of_range"
            rate = self.units.get(name)
            if rate is not None and quantity:
                charged[name] = rate.cost(quantity)
            elif quantity and name != "requests" and not (paid_by_tokens and name in MEASURES):
                return f"component_unpriced:{name}"
        per_call = self.units.get("requests")
        if per_call is not None and "requests" not in units:
            charged["requests"] = per_call.cost(Decimal(1))  # a call is a request
        return charged


def by_bucket(per_million: Mapping[str, Decimal]) -> Row:
    """A row, from dollars per million tokens by bucket."""
    return tuple(
        None if (price := per_million.get(bucket)) is None else per_token(price)
        for bucket in BUCKETS
    )
