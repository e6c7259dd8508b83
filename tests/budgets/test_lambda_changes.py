"""Budgets without a server that are changed: what fires again, what still waits, and what was left
over, while functions look at once and earlier releases have left their items."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from nilometer.budgets import dynamodb_items, lambda_handler
from nilometer.budgets.dynamodb_alerts import TemporaryFailure
from nilometer.budgets.dynamodb_items import TableStandings, key
from nilometer.budgets.evaluation import assess
from nilometer.domain import clock
from nilometer.errors import InvalidInput
from tests.budgets.making import Ledger, budget, utc
from tests.budgets.test_lambda_budgets import BUDGET, Lambda, alerts, alerts_of, on_local, told
from tests.dynamodb.conftest import Table, local, local_client, made, moto_client

__all__ = ["local", "local_client", "made", "moto_client", "on_local"]

HALF = BUDGET | {"thresholds": [50]}
FULL = BUDGET | {"thresholds": [100]}
OPENAI = {"scope": "service", "value": "openai"}
DOWN = TemporaryFailure("down", code="http_503")


def test_an_alert_that_lapses_while_it_waits_is_told_and_does_not_come_back(
    on_local: Lambda,
) -> None:
    on_local.set(HALF)
    on_local.spend("0.5")
    on_local.fails = DOWN
    assert on_local.run()["fired"] == alerts_of(50)
    on_local.set(HALF | {"amount_usd": "10"})
    assert on_local.run()["fired"] == []
    on_local.fails = None
    on_local.now += timedelta(hours=1)
    assert on_local.run() == {"budgets": 1, "fired": [], "sent": 1, "waiting": 0}
    assert alerts(on_local) == []
    on_local.spend("4.5")
    assert on_local.run() == {"budgets": 1, "fired": alerts_of(50), "sent": 1, "waiting": 0}


def test_a_threshold_fires_while_the_alert_of_an_earlier_amount_still_waits(
    on_local: Lambda,
) -> None:
    on_local.set(HALF)
    on_local.spend("0.5")
    on_local.fails = DOWN
    on_local.run()
    on_local.set(HALF | {"amount_usd": "10"})
    on_local.run()
    on_local.spend("4.5")
    assert on_local.run() == {"budgets": 1, "fired": alerts_of(50), "sent": 0, "waiting": 2}
    on_local.fails = None
    on_local.now += timedelta(hours=1)
    assert on_local.run() == {"budgets": 1, "fired": [], "sent": 2, "waiting": 0}
    assert len({each.id for each in on_local.told}) == 2
    [kept] = alerts(on_local)
    assert (kept["amount"]["S"], kept["state"]["S"]) == ("10", "sent")


def test_what_an_earlier_release_left_of_forgotten_alerts_keeps_nothing(on_local: Lambda) -> None:
    def leave() -> None:
        for name in (*alerts_of(50), f"{alerts_of(50)[0]}#5d3f8a9e"):
            put(on_local, {**key(f"ALERT#{name}"), "state": {"S": "sent"}})

    on_local.set(HALF)
    leave()
    assert on_local.run() == {"budgets": 1, "fired": [], "sent": 0, "waiting": 0}
    assert alerts(on_local) == []
    leave()
    on_local.spend("0.5")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: on_local.run(), range(16)))
    assert told(on_local) == ["50%"]


def test_what_waited_in_an_earlier_release_is_told(on_local: Lambda) -> None:
    on_local.set(HALF)
    on_local.spend("0.5")
    on_local.fails = DOWN
    on_local.run()
    [alert], [pending] = alerts(on_local), items(on_local, "PENDING#")
    delete(on_local, pending)
    put(on_local, {name: value for name, value in alert.items() if name != "counted"})
    del pending["alert"]
    put(on_local, pending | key(f"PENDING#{alerts_of(50)[0]}"))
    on_local.fails = None
    on_local.now += timedelta(hours=1)
    assert on_local.run() == {"budgets": 1, "fired": [], "sent": 1, "waiting": 0}
    assert [each["state"]["S"] for each in alerts(on_local)] == ["sent"]


@pytest.mark.parametrize(
    ("change", "attr"),
    [
        ({"scope": "model"}, "scope"),
        ({"value": "anthropic"}, "value"),
        ({"period": "week"}, "period"),
        ({"time_zone": "Asia/Tokyo"}, "time_zone"),
    ],
)
def test_a_budget_that_counts_something_else_needs_an_id_of_its_own(
    on_local: Lambda, change: dict[str, Any], attr: str
) -> None:
    team = BUDGET | OPENAI
    on_local.set(team)
    before = on_local.table.items()
    with pytest.raises(InvalidInput, match=f"the budget team .* another {attr}") as refused:
        on_local.set(BUDGET | {"name": "first"}, team | change)
    assert refused.value.attr == attr
    assert on_local.table.items() == before
    assert on_local.set(team | {"value": "OpenAI", "amount_usd": "2", "hard_stop": False}) == (1, 0)
    assert on_local.set(team | change | {"id": "team-2"}) == (1, 1)


def test_a_budget_of_the_environment_that_counts_something_else_fires_its_own(
    on_local: Lambda, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(lambda_handler.BUDGETS, json.dumps([FULL | OPENAI]))
    on_local.spend("1")
    assert on_local.run()["fired"] == alerts_of(100)
    on_local.now += timedelta(hours=1)
    other = FULL | OPENAI | {"value": "anthropic"}
    monkeypatch.setenv(lambda_handler.BUDGETS, json.dumps([other]))
    on_local.spend("1", service="anthropic")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: on_local.run(), range(16)))
    assert [each.facts["scope"] for each in on_local.told] == [
        *("service openai", "service anthropic"),
    ]


def test_what_a_period_left_over_is_of_the_amount_that_it_had(on_local: Lambda) -> None:
    team = FULL | {"created_at": "2025-06-01T00:00:00+00:00", "rollover_cap_usd": "0.5"}
    on_local.set(team, at=utc(2025, 6, 1))
    on_local.spend("0.75", at=utc(2025, 6, 20))
    for day, amount in enumerate(("10", "10.0", "20"), 2):
        on_local.set(team | {"amount_usd": amount}, at=utc(2025, 7, day))
    [kept] = dynamodb_items.stored(on_local.table.dynamodb, on_local.table.name)
    assert kept.past_amounts == ((utc(2025, 7, 2), Decimal(1)), (utc(2025, 7, 4), Decimal(10)))
    on_local.run()
    [standing] = items(on_local, "STANDING#")
    assert standing["limit"]["S"] == "20.25"


def test_a_lowered_amount_is_none_of_the_period_that_has_ended(on_local: Lambda) -> None:
    on_local.set(FULL, at=utc(2025, 6, 1))
    on_local.spend("0.6", at=utc(2025, 6, 30, 12))
    on_local.now = utc(2025, 7, 1, 10)
    on_local.set(FULL | {"amount_usd": "0.5"}, at=on_local.now)
    assert on_local.run()["fired"] == []
    on_local.spend("0.4", at=utc(2025, 6, 30, 12))
    assert on_local.run()["fired"] == ["team#2025-06-01T00:00:00+00:00#0100"]


def test_what_is_no_budget_in_the_table_is_replaced(on_local: Lambda) -> None:
    put(on_local, {**key("BUDGET#team"), "budget": {"S": '{"name": "team"}'}})
    assert on_local.set(BUDGET) == (1, 0)
    assert on_local.run()["budgets"] == 1


def test_of_two_looks_at_once_the_later_one_says_how_budgets_stand(
    made: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = utc(2025, 7, 2)
    later = looked + timedelta(microseconds=1)
    team, other = (budget(id=name, hard_stop=True) for name in ("team", "other"))
    calls = Ledger((utc(2025, 7, 1), "90"))
    early = [each.current for each in assess(calls, [team], looked)]
    calls.calls.append((utc(2025, 7, 1), "11"))
    late = [each.current for each in assess(calls, [team, other], later)]
    dynamodb_items.put_standings(made.dynamodb, made.name, late, later)
    dynamodb_items.put_standings(made.dynamodb, made.name, early, looked)
    monkeypatch.setattr(clock, "now", lambda: later)
    standings = TableStandings(made.dynamodb, made.name)
    assert {each.id: each.spent for each in standings.ask()} == {"team": 101, "other": 101}
    dynamodb_items.put_standings(made.dynamodb, made.name, early, later + timedelta(hours=1))
    assert {each.id: each.spent for each in standings.ask()} == {"team": 90}


def items(function: Lambda, begin: str) -> list[dict[str, Any]]:
    return list(dynamodb_items.query(function.table.dynamodb, function.table.name, begin))


def put(function: Lambda, item: dict[str, Any]) -> None:
    function.table.dynamodb.put_item(TableName=function.table.name, Item=item)


def delete(function: Lambda, item: dict[str, Any]) -> None:
    where = {"PK": item["PK"], "SK": item["SK"]}
    function.table.dynamodb.delete_item(TableName=function.table.name, Key=where)
