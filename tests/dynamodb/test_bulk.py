"""What a measurement fills a table with is what the product's writers leave."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from bench import usage_query, usage_table
from nilometer.dynamodb import writer
from nilometer.usage.answers import answer
from tests.dynamodb.conftest import Table, new_table

METRICS = 12
DAYS = [date(2025, 6, 1), date(2025, 6, 2)]
SHARES = [range(6), range(6, METRICS)]


def _metric(number: int) -> Any:
    return usage_query._metric(number, METRICS * usage_query.DAYS // len(DAYS))


def _of_both_kinds(number: int) -> Any:
    """Every third metric has an id that was given, with a marker; no other one has."""
    made = _metric(number)
    return made if number % 3 else replace(made, request_id=f"line {number}")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Transactions of two, folded by two: of six metrics a day one fold and a rest."""
    monkeypatch.setattr(writer, "MAX_METRICS", 2)
    monkeypatch.setattr(writer, "FOLD_AT", 2)


def test_a_table_that_is_filled_has_what_its_writers_leave(local_client: Any, small: None) -> None:
    with new_table(local_client) as bulk, new_table(local_client) as written:
        names = (bulk.name, written.name)
        count, alone = usage_table.difference(local_client, names, DAYS, SHARES, _of_both_kinds, 1)
        assert alone == []
        kinds = {item["TYPE"]["S"] for item in bulk.items()}
        assert kinds == {
            *("AIUsageMetric", "AIUsageId", "AIUsageRollup", "AIUsageAddition", "AIUsageVersion")
        }
        assert count == len(bulk.items()) > METRICS
        assert sum(item["TYPE"]["S"] == "AIUsageId" for item in bulk.items()) == METRICS // 3


def test_a_month_is_answered_without_the_metrics_own_items(local: Table, small: None) -> None:
    usage_table.fill(local.dynamodb, local.name, DAYS, SHARES, _metric, step=METRICS, lanes=1)
    watched = usage_table.Watched(local.dynamodb)
    table = Table(watched, local.name)
    asked = usage_query.query(usage_query.LEVELS)
    told = answer(asked, table.reader().groups(asked))
    metrics = [_metric(number) for number in range(METRICS)]
    assert told["summary"]["total_api_calls"] == METRICS
    assert told["summary"]["total_tokens"] == sum(each.total_tokens for each in metrics)
    assert told["aggregations"]["by_user"].keys() == {each.user_id for each in metrics}
    assert not [each for each in watched.partitions if each.startswith("AI_USAGE#")]
