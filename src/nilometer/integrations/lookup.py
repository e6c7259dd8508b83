"""One request to Google Maps Platform: timed, and recorded with its SKUs and what they cost."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from nilometer.domain.usage import Usage
from nilometer.integrations.google_skus import PRICE_SOURCE
from nilometer.sdk.tracker import Tracker

SERVICE = "google_places"


class Lookup:
    """A request from now on. What the provider refused, or never got, is not billed. Raises
    BudgetExceeded when it is made, where a hard stop holds."""

    def __init__(
        self,
        tracker: Tracker,
        operation: str,
        skus: Sequence[str],
        prices: Mapping[str, Decimal],
    ) -> None:
        tracker.admit(SERVICE, skus[0])
        self._tracker = tracker
        self._operation = operation
        self._skus = skus
        self._prices = prices
        self._scopes = tracker.snapshot()
        self._begun = time.perf_counter()
        self.retries = 0

    def end(
        self,
        error: BaseException | str | None = None,
        *,
        http_status: int | None = None,
        error_type: str | None = None,
    ) -> None:
        """Record it."""
        billed = error is None
        known = [self._prices.get(sku) for sku in self._skus]
        cost = None if None in known else sum((each for each in known if each), Decimal(0))
        units = dict.fromkeys(("requests", *self._skus), Decimal(1)) if billed else {}
        seen: dict[str, Any] = {}
        if billed and cost is not None:
            seen = {"cost_usd": cost, "price_source": PRICE_SOURCE}
        self._tracker.record(
            service=SERVICE,
            model=self._skus[0],
            operation=self._operation,
            usage=Usage(vector=None, convention=SERVICE, reason="not_reported", units=units),
            latency=time.perf_counter() - self._begun,
            error=error,
            error_type=error_type,
            http_status=http_status,
            retries=self.retries,
            context=self._scopes,
            **seen,
        )
