"""Price lookup and exact calculation. Pure: overrides are arguments; nothing reads a file or the
network, except `files` and `refreshing`, which are asked to."""

from nilometer.pricing.overrides import NO_OVERRIDES, Override, Overrides
from nilometer.pricing.plans import Quote
from nilometer.pricing.pricing import Priced, price
from nilometer.pricing.resolving import Resolved, Unresolved, resolve

__all__ = [
    "NO_OVERRIDES",
    "Override",
    "Overrides",
    "Priced",
    "Quote",
    "Resolved",
    "Unresolved",
    "price",
    "resolve",
]
