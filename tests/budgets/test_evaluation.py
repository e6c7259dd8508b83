"""What a budget's spend comes to: exact, with what carries over, late usage and a forecast."""

from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nilometer.budgets.budget import BudgetScope, ScopeKind, plain, usd
from nilometer.budgets.evaluation import MAX_CARRIED, assess
from nilometer.budgets.periods import Period
from nilometer.errors import InvalidInput
from tests.budgets.making import Ledger, budget, utc

NOW = utc(2026, 11, 21, 12)


def current(ledger, now=NOW, **given):
    [assessment] = assess(ledger, [budget(**given)], now, forecasts=True)
    return assessment.current


def test_a_threshold_is_reached_at_its_percent_and_not_a_hair_before():
    hair = Decimal("0.000000000000000001")
    for cost, crossed in ((80 - hair, (50,)), (Decimal(80), (50, 80)), (100 - hair, (50, 80))):
        found = current(Ledger((utc(2026, 11, 1), str(cost))))
        assert found.crossed == crossed
    assert found.percent == Decimal("99.99")
    assert not found.stops


@given(
    st.lists(st.decimals(0, 10**14, places=18, allow_nan=False), min_size=1, max_size=3),
    st.decimals("0.000000000000000001", 10**14, places=18),
    st.integers(1, 1000),
)
def test_thresholds_are_decided_exactly_however_long_the_amounts_are(costs, amount, threshold):
    ledger = Ledger(*((utc(2026, 11, 2), format(cost, "f")) for cost in costs))
    found = current(ledger, amount=amount, thresholds=(threshold,))
    atto = sum(int(cost.scaleb(18).to_integral_exact()) for cost in costs)
    limit = int(amount.scaleb(18).to_integral_exact())
    assert bool(found.crossed) == (atto * 100 >= limit * threshold)


def test_only_a_hard_stop_stops_and_only_at_the_whole_limit():
    spent = Ledger((utc(2026, 11, 1), "100"))
    assert current(spent, hard_stop=True).stops
    assert not current(spent, hard_stop=False).stops
    assert not current(Ledger((utc(2026, 11, 1), "99.99")), hard_stop=True).stops


def test_unpriced_calls_are_counted_and_told_and_are_not_free():
    found = current(Ledger((utc(2026, 11, 1), "10"), (utc(2026, 11, 2), None)))
    assert (found.spent.cost, found.spent.calls, found.spent.unpriced) == (10, 2, 1)


def test_what_is_unspent_carries_over_up_to_the_cap():
    ledger = Ledger((utc(2026, 9, 10), "100"), (utc(2026, 10, 10), "40"), (utc(2026, 11, 10), "10"))
    since = utc(2026, 9, 5)
    for cap, carried in ((None, 0), (Decimal(0), 0), (Decimal(25), 25), (Decimal(500), 60)):
        found = current(ledger, rollover_cap=cap, created_at=since)
        assert (found.carried, found.limit, found.left) == (carried, 100 + carried, 90 + carried)


def test_what_is_left_over_follows_through_periods_and_none_is_owed():
    ledger = Ledger((utc(2026, 9, 10), "40"), (utc(2026, 10, 10), "500"))
    first = {"rollover_cap": Decimal(1000), "created_at": utc(2026, 8, 5)}
    assert current(ledger, utc(2026, 10, 2), **first).carried == 160  # 100 of August, 60 of its own
    assert current(ledger, NOW, **first).carried == 0  # October took it all


def test_a_budget_carries_nothing_from_before_it_was_there():
    found = current(Ledger(), rollover_cap=Decimal(1000), created_at=utc(2026, 11, 3))
    assert found.carried == 0


def test_a_chain_of_periods_has_an_end():
    ledger = Ledger()
    found = current(ledger, rollover_cap=Decimal(10**6), period=Period.DAY)
    assert found.carried == MAX_CARRIED * 100


def test_a_period_that_has_ended_keeps_the_limit_that_it_had():
    calls = [(utc(2026, 10, 1, 12) + timedelta(days=day), "8") for day in range(40)]
    ledger = Ledger(*calls, (utc(2026, 11, 10, 12), "33"))
    spec = budget(period=Period.DAY, amount=Decimal(10), rollover_cap=Decimal(30))
    [then] = assess(ledger, [spec], utc(2026, 11, 10, 23))
    [after] = assess(ledger, [spec], utc(2026, 11, 11, 1))
    assert after.late.bounds == then.current.bounds
    assert after.late.limit == then.current.limit == 10 + MAX_CARRIED * 2
    assert after.late.crossed == then.current.crossed == (50, 80)


def test_what_earlier_periods_left_is_of_the_amount_that_held_at_their_end():
    changed = {"amount": Decimal(300), "past_amounts": ((utc(2026, 11, 15), Decimal(100)),)}
    found = current(
        Ledger((utc(2026, 10, 10), "30")),
        rollover_cap=Decimal(1000),
        created_at=utc(2026, 10, 1, 1),
        **changed,
    )
    assert (found.carried, found.limit) == (70, 370)


def test_usage_of_an_earlier_period_that_comes_late_is_of_that_period():
    ledger = Ledger((utc(2026, 10, 31, 23), "90"), (utc(2026, 11, 1, 2), "1"))
    spec = budget()
    [soon] = assess(ledger, [spec], utc(2026, 11, 1, 23))
    assert soon.late is not None
    assert (soon.late.bounds.name, soon.late.crossed) == ("2026-10", (50, 80))
    assert (soon.current.bounds.name, soon.current.crossed) == ("2026-11", ())
    [later] = assess(ledger, [spec], utc(2026, 11, 2, 1))
    assert later.late is None


def test_a_budget_that_was_not_there_yet_has_no_late_period():
    [found] = assess(Ledger(), [budget(created_at=utc(2026, 11, 1, 1))], utc(2026, 11, 1, 2))
    assert found.late is None


def test_all_budgets_ask_once_and_each_question_once():
    ledger = Ledger()
    of_service = BudgetScope(ScopeKind.SERVICE, "OpenAI")
    assess(ledger, [budget(), budget(), budget(scope=of_service)], NOW)
    assert len(ledger.asked) == 2
    assert ledger.asked[1].scope.value == "openai"


def test_the_forecast_is_what_is_spent_and_the_last_weeks_rate_for_the_rest():
    # 7 dollars in the last seven days, nine and a half days to go.
    calls = [(NOW - timedelta(days=day, hours=-1), "1") for day in range(1, 8)]
    found = current(Ledger((utc(2026, 11, 1), "20"), *calls)).forecast
    assert found.method == "trailing_week"
    assert abs(found.cost - Decimal("36.5")) < Decimal("0.1")
    assert found.limit_at is None


def test_the_forecast_says_when_the_limit_is_reached():
    calls = [(NOW - timedelta(days=day, hours=-1), "10") for day in range(1, 8)]
    found = current(Ledger(*calls)).forecast
    assert found.limit_at is not None
    assert abs(found.limit_at - (NOW + timedelta(days=3))) < timedelta(hours=2)
    assert current(Ledger((utc(2026, 11, 20), "500"))).forecast.limit_at is None  # reached already


def test_a_project_of_a_day_is_not_taken_for_one_of_a_week():
    calls = [(NOW - timedelta(hours=hour), "1") for hour in range(1, 25)]
    found = current(Ledger(*calls)).forecast
    assert abs(found.cost - (24 + 24 * Decimal("9.5"))) < 1


@pytest.mark.parametrize(
    ("attr", "given"),
    [
        ("name", {"name": ""}),
        ("name", {"name": "a\nb"}),
        ("amount_usd", {"amount": Decimal(0)}),
        ("amount_usd", {"amount": Decimal(-1)}),
        ("amount_usd", {"amount": Decimal("NaN")}),
        ("amount_usd", {"amount": Decimal("1e-19")}),
        ("amount_usd", {"amount": Decimal(10**15)}),
        ("rollover_cap_usd", {"rollover_cap": Decimal("Infinity")}),
        ("thresholds", {"thresholds": (80, 50)}),
        ("thresholds", {"thresholds": (50, 50)}),
        ("thresholds", {"thresholds": (0,)}),
        ("time_zone", {"time_zone": "Mars/Olympus"}),
        ("channels", {"channels": tuple(map(str, range(21)))}),
    ],
)
def test_what_no_budget_can_be_is_refused_by_its_name(attr, given):
    with pytest.raises(InvalidInput) as refused:
        budget(**given)
    assert refused.value.attr == attr


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (ScopeKind.PROJECT, "x"),
        (ScopeKind.GLOBAL, "x"),
        (ScopeKind.JOB, ""),
        (ScopeKind.USER, "\n"),
    ],
)
def test_a_scope_has_a_value_where_it_needs_one(kind, value):
    with pytest.raises(InvalidInput) as refused:
        BudgetScope(kind, value)
    assert refused.value.attr == "value"


@pytest.mark.parametrize(
    "text", ["", "x", "1,5", "1e400", "NaN", "9" * 65, "0.0000000000000000001"]
)
def test_an_amount_is_read_from_its_text_or_refused(text):
    with pytest.raises(InvalidInput):
        usd("amount", text)


def test_an_amount_is_written_as_it_is():
    assert [plain(usd("a", text)) for text in ("100", "1.50", "1e3")] == ["100", "1.5", "1000"]


def test_the_core_needs_no_server(core_modules):
    assert not core_modules & {"sqlalchemy", "fastapi", "pydantic", "clickhouse_connect"}


@pytest.fixture
def core_modules():
    import subprocess
    import sys

    code = (
        "import sys, nilometer.budgets.evaluation, nilometer.budgets.forecast; "
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split())
