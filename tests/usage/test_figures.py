"""Figures of a report, added up and taken apart."""

from __future__ import annotations

from decimal import Decimal

from nilometer.usage.report.report import NOTHING, Figures, Line, Table

UNPRICED = Figures(None, calls=2, requests=2, unpriced=2)
PRICED = Figures(Decimal("0.5"), calls=1, requests=1)
FAILED = Figures(Decimal(0), calls=1, requests=1, errors=1)


def test_calls_that_are_all_unpriced_cost_nothing_that_is_known():
    assert NOTHING.plus(UNPRICED).cost is None
    assert UNPRICED.plus(FAILED).cost is None
    assert UNPRICED.plus(PRICED).cost == Decimal("0.5")
    assert NOTHING.plus(FAILED).cost == 0
    assert UNPRICED.plus(PRICED).minus(PRICED).cost is None


def test_others_that_are_all_unpriced_are_told_as_unknown():
    table = Table(("job",), (Line(("a",), PRICED), Line(("b",), UNPRICED)))
    _, others = table.split(1)
    assert others is not None
    assert (others.now.cost, others.now.calls) == (None, 2)
