from decimal import Decimal

import pytest

from nilometer.query.costs import CallCost, money, with_costs


def cost(total: str | None) -> CallCost:
    amount = None if total is None else Decimal(total)
    nothing = (None, None, None, "", "", "", "", "", "")
    return CallCost("call", None, amount, amount, *nothing)


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("12345678901234567890.123456789012345678", "12345678901234567890.123456789012345678"),
        ("0.000000000000000001", "0.000000000000000001"),
        ("100.000000000000000000", "100"),
        ("0E-18", "0"),
    ],
)
def test_money_keeps_every_digit(amount, text):
    assert money(Decimal(amount)) == text


@pytest.mark.parametrize(
    ("properties", "shown"),
    [
        ("{}", '{"$ai_output_cost_usd":"0.5","$ai_total_cost_usd":"0.5"}'),
        ('{"a":1.10}', '{"a":1.10,"$ai_output_cost_usd":"0.5","$ai_total_cost_usd":"0.5"}'),
        ('{"$ai_total_cost_usd":2}', '{"$ai_total_cost_usd":2,"$ai_output_cost_usd":"0.5"}'),
        # A name in a text is not a property.
        (
            '{"a":"$ai_total_cost_usd"}',
            '{"a":"$ai_total_cost_usd","$ai_output_cost_usd":"0.5","$ai_total_cost_usd":"0.5"}',
        ),
    ],
)
def test_a_computed_cost_stands_where_none_was_reported(properties, shown):
    assert with_costs(properties, cost("0.50")) == shown


def test_an_unknown_cost_changes_nothing():
    assert with_costs('{"a":1.10}', cost(None)) == '{"a":1.10}'
    assert with_costs('{"a":1.10}', None) == '{"a":1.10}'
