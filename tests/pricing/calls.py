"""Calls to price."""

from datetime import UTC, datetime
from decimal import Decimal

from nilometer.domain.usage import TokenVector, Usage
from nilometer.pricing import price

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)


def usage(units=None, **tokens):
    """Usage with these tokens, and none known if there are none."""
    vector = TokenVector(**tokens) if tokens else None
    return Usage(
        vector=vector,
        convention="test",
        units={name: Decimal(each) for name, each in (units or {}).items()},
    )


def priced(provider, model, *, at=NOON, tier="", region="", units=None, more=None, **tokens):
    return price(
        usage(units, **tokens),
        provider=provider,
        model=model,
        at=at,
        tier=tier,
        region=region,
        **(more or {}),
    )
