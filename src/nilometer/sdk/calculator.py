"""What a call cost, by the price book. The book is loaded with the first price that is asked for:
it takes about a second, and what never prices need not have it."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nilometer.domain import clock
from nilometer.domain.metric_rules import FINEST_EXPONENT
from nilometer.domain.usage import TokenVector, Usage
from nilometer.errors import ConfigurationError

if TYPE_CHECKING:
    from nilometer.pricing import Override, Overrides

NO_BOOK = "no_price_book"
"""The reason where the package of prices is not installed: `pip install 'nilometer[prices]'`."""


@dataclass(frozen=True, slots=True)
class Cost:
    """A price in dollars with its source, or `reason`, why there is none (`total` is None then)."""

    total: Decimal | None
    components: Mapping[str, Decimal] = field(default_factory=dict[str, Decimal])
    reason: str = ""
    source: str | None = None
    version: str | None = None
    as_of: date | None = None
    service: str | None = None
    model: str | None = None


class CostCalculator:
    """Exact prices by the book and, first, by one's own from a file (docs/prices.md). Safe between
    threads.

        calculator.of_tokens("openai", "gpt-4o-mini", input_tokens=1000, output_tokens=50).total
    """

    def __init__(self, prices_file: str | Path | None = None) -> None:
        self._file = prices_file
        self._lock = threading.RLock()  # a finalizer or a signal's handler may price, too
        self._read: list[Override] | None = None
        self._overrides: Overrides | None = None

    def check(self) -> None:
        """Read the file of one's own prices now, without the book. Raises ConfigurationError for
        one that cannot be read."""
        if _has_book():
            self._entries()

    def of_tokens(
        self,
        service: str,
        model: str,
        *,
        input_tokens: int = 0,
        output_tokens: int = 0,
        at: datetime | None = None,
        tier: str = "",
    ) -> Cost:
        """What so many tokens of plain text cost. `tier` is `batch`, `flex` … or "" for none."""
        vector = TokenVector(uncached_input=input_tokens, text_output=output_tokens)
        usage = Usage(vector=vector, convention="counts")
        return self.of(usage, service=service, model=model, at=at or clock.now(), tier=tier)

    def of(
        self,
        usage: Usage,
        *,
        service: str | None,
        model: str | None,
        at: datetime,
        tier: str = "",
        region: str = "",
    ) -> Cost:
        """What a call cost at an aware moment, or why there is no price; reasons are those of
        `nilometer.pricing.price`, and `no_price_book`. Raises ConfigurationError for a file of
        prices that cannot be read."""
        if not _has_book():
            return Cost(None, reason=NO_BOOK)
        from nilometer.pricing import price  # with the book

        found = price(
            usage,
            provider=service,
            model=model,
            at=at,
            tier=tier,
            region=region,
            overrides=self._own(),
        )
        total = found.total
        named: dict[str, Any] = {
            "source": found.source or None,
            "version": found.version or None,
            "as_of": found.as_of,
            "service": found.provider,
            "model": found.model,
        }
        if total is None:
            return Cost(None, reason=found.reason, **named)
        components = {part: amount for part, amount in found.components.items() if amount}
        if not all(map(_fits, (total, *components.values()))):
            return Cost(None, reason="cost_out_of_range", **named)
        return Cost(total, components, **named)

    def _own(self) -> Overrides:
        with self._lock:
            if self._overrides is None:
                self._overrides = self._loaded()
            return self._overrides

    def _loaded(self) -> Overrides:
        from nilometer.pricing import NO_OVERRIDES, Overrides
        from nilometer.pricing.files import tell_of_unknown_targets

        entries = self._entries()
        tell_of_unknown_targets(entries)
        return Overrides(entries) if entries else NO_OVERRIDES

    def _entries(self) -> list[Override]:
        with self._lock:
            if self._read is None:
                self._read = [] if self._file is None else _read(self._file)
            return self._read


def _read(file: str | Path) -> list[Override]:
    from nilometer.pricing.files import read

    try:
        return read(Path(file))
    except ConfigurationError as error:
        raise ConfigurationError(
            f"{error.detail.rstrip('.')}. Mend {file}, or name another file as prices_file "
            "(NILOMETER_PRICES_FILE).",
            attr="prices_file",
        ) from None


def _fits(amount: Decimal) -> bool:
    """Whether a metric can hold the amount; it is never rounded."""
    exponent = amount.as_tuple().exponent
    return isinstance(exponent, int) and exponent >= FINEST_EXPONENT


@cache
def _has_book() -> bool:
    return importlib.util.find_spec("genai_prices") is not None
