"""The lookup of prices that `usage.savings` needs, where the price book is installed."""

from __future__ import annotations

import importlib.util
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from nilometer.usage.savings import RatesOf

if TYPE_CHECKING:
    from nilometer.pricing.overrides import Overrides
    from nilometer.pricing.rates import Rates


def rates_by(overrides: Overrides) -> RatesOf:
    """Looks up in the current price book and, first, these overrides."""
    from nilometer.pricing.book import current
    from nilometer.pricing.plans import make_plan

    def rates_of(service: str, model: str, tier: str, at: datetime) -> Rates | None:
        return make_plan(current(), overrides, service, model, tier, "").at(at).rates

    return rates_of


def local_rates(prices_file: Path | None = None) -> RatesOf:
    """As `rates_by`, with the prices of a file; where no price book is installed nothing has
    rates. Raises ConfigurationError for a file that cannot be read."""
    if importlib.util.find_spec("genai_prices") is None:
        return _unknown
    from nilometer.pricing.overrides import Overrides

    if prices_file is None:
        return rates_by(Overrides(()))
    from nilometer.pricing.files import load

    return rates_by(Overrides(load(prices_file)))


def _unknown(_service: str, _model: str, _tier: str, _at: datetime) -> None:
    """No price."""
