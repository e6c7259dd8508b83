"""What a call cost: the one function that the rest of Nilometer calls.

from datetime import UTC, datetime
from nilometer.domain.usage import TokenVector, Usage
from nilometer.pricing import price

usage = Usage(vector=TokenVector(uncached_input=1000, text_output=50), convention="openai")
price(usage, provider="openai", model="gpt-4o", at=datetime.now(UTC)).total  # 0.003000
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from nilometer.domain.usage import Usage
from nilometer.pricing.book import Book, current
from nilometer.pricing.overrides import NO_OVERRIDES, Overrides
from nilometer.pricing.plans import Plan, Quote, make_plan
from nilometer.pricing.rates import Costs

# Names are the sender's to choose, so what is remembered of them is bounded.
_MOST_PLANS = 4096
_UNKNOWN = Quote(None)
_PLANS: dict[tuple[Book, Overrides, str | None, str | None, str, str], Plan] = {}


@dataclass(frozen=True, slots=True)
class Priced:
    """What a call cost in dollars, and by which price; or `reason`, why it is unpriced.

    Unpriced, `costs` is None, as are the sums; `reason` is "" for a price.
    """

    quote: Quote
    costs: Costs | None
    reason: str = ""

    @property
    def components(self) -> Mapping[str, Decimal]:
        """The cost of what was consumed, by bucket of the token vector and by unit."""
        return self.costs.components if self.costs else {}

    @property
    def input_cost(self) -> Decimal | None:
        """All input tokens."""
        return self.costs.input if self.costs else None

    @property
    def output_cost(self) -> Decimal | None:
        """All output tokens."""
        return self.costs.output if self.costs else None

    @property
    def unit_cost(self) -> Decimal | None:
        """Everything that is not tokens: searches, seconds, requests …"""
        return self.costs.units if self.costs else None

    @property
    def total(self) -> Decimal | None:
        """All of it."""
        return self.costs.total if self.costs else None

    @property
    def source(self) -> str:
        """`genai-prices`, or `override:` and an id; "" where no price was found."""
        return self.quote.source

    @property
    def version(self) -> str:
        """The edition of the price book; "" for an override."""
        return self.quote.version

    @property
    def as_of(self) -> date | None:
        """The date from which the price holds; None where the book gives none."""
        return self.quote.as_of

    @property
    def provider(self) -> str | None:
        """The provider as resolved; None while unknown."""
        return self.quote.provider

    @property
    def model(self) -> str | None:
        """The model as resolved; None while unknown."""
        return self.quote.model

    @property
    def how(self) -> str:
        """`exact`, `snapshot` or `override`; `alias:` and an id before it where one led there."""
        return self.quote.how

    @property
    def deprecated(self) -> bool:
        """Whether the provider has announced the model's end."""
        return self.quote.deprecated


def price(
    usage: Usage,
    *,
    provider: str | None,
    model: str | None,
    at: datetime,
    tier: str = "",
    region: str = "",
    overrides: Overrides = NO_OVERRIDES,
    book: Book | None = None,
) -> Priced:
    """The exact price of a call, or why it has none. Never raises for what a source sent.

    `provider`, `model`, `tier` (`batch`, `flex`, `priority`, `fast`; "" is standard) and `region`
    are as the source sent them; `at` is when the call was made. Reasons: those of `resolve`,
    `naive_time`, `no_usage`, `usage_out_of_range`, `no_price_at_time`, `component_unpriced:…`,
    `tier_unpriced:…`, `region_unpriced:…`.
    """
    if at.utcoffset() is None:
        return Priced(_UNKNOWN, None, "naive_time")
    quote = _plan(book or current(), overrides, provider, model, tier, region).at(at)
    if quote.rates is None:
        return Priced(quote, None, quote.reason)
    costs = quote.rates.costs(usage)
    return Priced(quote, None, costs) if isinstance(costs, str) else Priced(quote, costs)


def _plan(
    book: Book,
    overrides: Overrides,
    provider: str | None,
    model: str | None,
    tier: str,
    region: str,
) -> Plan:
    key = (book, overrides, provider, model, tier, region)
    plan = _PLANS.get(key)
    if plan is None:
        if len(_PLANS) >= _MOST_PLANS:
            _PLANS.clear()
        plan = _PLANS[key] = make_plan(book, overrides, provider, model, tier, region)
    return plan
