"""Exact money: decimal arithmetic that raises rather than rounds."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal, Inexact, InvalidOperation, Overflow

EXACT = Context(prec=80, traps=[Inexact, InvalidOperation, Overflow])
"""Wide enough for every product of a count and a price that are let in; traps what is inexact."""

ZERO = Decimal(0)
FINEST = Decimal("1e-18")
"""The finest amount that is kept, in dollars: the scale of the store's column."""

LARGEST_COUNT = 10**15
"""More tokens or units than this are a source's mistake, and no money."""

_QUOTIENT = Context(prec=80, rounding=ROUND_HALF_EVEN, traps=[InvalidOperation, Overflow])


def per_token(per_million: Decimal) -> Decimal:
    """The price of one token, from that of a million. Exact."""
    return per_million.scaleb(-6, EXACT)


def of_units(quantity: Decimal, price: Decimal, per: int) -> Decimal:
    """What `quantity` units cost at `price` for every `per` of them.

    The one place that may round: an hour's price need not divide into seconds, and a quantity may
    be a fraction. Finer than FINEST is rounded to it, half to even.
    """
    cost = _QUOTIENT.divide(EXACT.multiply(quantity, price), Decimal(per))
    exponent = cost.as_tuple().exponent
    fine = isinstance(exponent, int) and exponent < -18
    return _QUOTIENT.quantize(cost, FINEST).normalize(_QUOTIENT) if fine else cost
