"""What is read one by one: no more than the question needs, and never far ahead of who reads it."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given, settings

from nilometer.budgets.budget import BudgetScope, ScopeKind
from nilometer.budgets.dynamodb_spend import DynamoSpend
from nilometer.budgets.spend import Span
from nilometer.domain.usage_metric import AIUsageMetric
from nilometer.dynamodb import pages, schema
from nilometer.dynamodb.reader import Reader
from nilometer.errors import InvalidInput
from nilometer.usage.answers import answer
from nilometer.usage.groups import values_of
from tests.dynamodb.conftest import Table
from tests.dynamodb.test_contract import QUESTIONS, asked, expected, many
from tests.usage.metrics import JULY, metric, metrics

FIRST, LAST = date(2025, 7, 1), date(2025, 7, 31)
TWO_SCOPES = {"aggregation": "", "group_by": "user,job", "end_date": "2025-07-20"}
"""A question that no rollup answers."""
NOON = JULY + timedelta(hours=12)


class Seen:
    """DynamoDB, in pages of a few items; remembers what was read of metrics' own partitions."""

    def __init__(self, dynamodb: Any, page: int = 1000) -> None:
        self._dynamodb = dynamodb
        self._page = page
        self.pages = 0
        self.items: list[dict[str, Any]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dynamodb, name)

    def query(self, **asked: Any) -> Any:
        found = self._dynamodb.query(**{"Limit": self._page} | asked)
        partition = asked["ExpressionAttributeValues"][":key"]["S"]
        if partition.startswith(("AI_USAGE#", "AI_USAGE_COST#", "USER#", "JOB#", "ENV#")):
            self.pages += 1
            self.items += found["Items"]
        return found


def spread(count: int) -> list[AIUsageMetric]:
    """Metrics of 20 days, which as many times four partitions have."""
    return [
        metric(
            timestamp=JULY + timedelta(days=n % 20, seconds=n),
            user_id=f"user-{n % 3}",
            job_id=f"job-{n % 5}",
        )
        for n in range(count)
    ]


def test_all_is_read_however_many_pages_it_has(local: Table):
    stored = [*many(), *spread(60)]
    assert local.sink().store(stored) == []
    for page in (1, 7):
        reader = Reader(Seen(local.dynamodb, page), local.name, keeps=False)
        for question in (TWO_SCOPES, QUESTIONS[0], QUESTIONS[4], QUESTIONS[5]):
            query = asked(**question)
            assert answer(query, reader.groups(query)) == expected(query, stored)
        assert sorted(each.request_id for each in reader.metrics(FIRST, LAST)) == sorted(
            each.request_id for each in stored
        )
        reader.close()


def test_a_question_of_too_many_calls_is_refused_before_they_are_read(local: Table):
    assert local.sink().store(spread(500)) == []
    for ask in (
        lambda reader: reader.groups(asked(**TWO_SCOPES)),
        lambda reader: list(reader.metrics(FIRST, LAST, most=20)),
    ):
        seen = Seen(local.dynamodb, 2)
        reader = Reader(seen, local.name, max_read=20)
        with pytest.raises(InvalidInput) as refused:
            ask(reader)
        reader.close()  # those that are asked for come to their end
        assert refused.value.code == "too_many_calls"
        assert seen.pages <= 21 + pages.AHEAD < 500 / 2


def test_no_more_pages_are_asked_for_than_who_reads_them_comes_to(local: Table):
    assert local.sink().store(spread(500)) == []
    seen = Seen(local.dynamodb, 1)
    reader = Reader(seen, local.name)
    found = reader.metrics(FIRST, LAST)
    for _ in range(3):
        next(found)
    reader.close()  # those that are asked for come to their end
    assert seen.pages <= 3 * 2 + pages.AHEAD


def test_what_is_read_of_a_metric_is_what_its_row_is_of(local: Table):
    assert local.sink().store([*many(), metric(metadata={"text": "x" * 10_000})]) == []
    seen = Seen(local.dynamodb)
    reader = Reader(seen, local.name, keeps=False)
    reader.groups(asked(**TWO_SCOPES))
    assert seen.items
    assert not any("details" in item for item in seen.items)
    reader.close()


@given(metrics())
@settings(max_examples=60)
def test_a_row_needs_no_other_attributes_than_those(found: AIUsageMetric):
    stored = schema.item(found)
    names = set(schema.ROW_ALONE["ExpressionAttributeNames"].values())
    projected = {name: value for name, value in stored.items() if name in names}
    assert schema.row(projected) == schema.row(stored)
    assert schema.row(stored).values == values_of(found)


@pytest.mark.parametrize(
    "filters",
    [{}, {"service": "openai"}, {"service": "openai", "model": "m"}, {"user": "u"}, {"job": "j"},
     {"environment": "e"}, {"model": "m"}],
    ids=str,
)  # fmt: skip
def test_of_a_span_nothing_else_is_read(local: Table, filters: dict[str, str]):
    """Its begin is in it and its end is not, to the microsecond."""
    tick = timedelta(microseconds=1)
    moments = [NOON - tick, NOON, NOON + tick, NOON + timedelta(minutes=20) - tick]
    moments += [NOON + timedelta(minutes=20), NOON + timedelta(days=1)]
    scopes = {"user_id": "u", "job_id": "j", "environment": "e", "model": "m"}
    assert local.sink().store([metric(timestamp=at, **scopes) for at in moments]) == []
    seen = Seen(local.dynamodb)
    reader = Reader(seen, local.name)
    found = list(reader.rows(NOON, NOON + timedelta(minutes=20), filters))
    assert len(found) == len(seen.items) == 3
    assert sum(each.values[0] for each in found) == 3
    reader.close()


def test_a_span_may_be_of_several_days(local: Table):
    moments = [NOON + timedelta(hours=6 * n) for n in range(12)]
    assert local.sink().store([metric(timestamp=at) for at in moments]) == []
    reader = local.reader()
    assert len(list(reader.rows(NOON, NOON + timedelta(days=2), {}))) == 8
    assert len(list(reader.rows(JULY, JULY + timedelta(days=1), {}))) == 2
    reader.close()


def test_a_budget_of_a_zone_of_half_hours_reads_the_half_hours_alone(local: Table):
    """A day in Kolkata: of the hours at its ends, what is within it."""
    moments = [JULY + timedelta(hours=18, minutes=10 * n) for n in range(150)]
    stored = [metric(timestamp=at, metadata={"text": "x" * 1000}) for at in moments]
    assert local.sink().store(stored) == []
    seen = Seen(local.dynamodb)
    reader = Reader(seen, local.name)
    begin = JULY + timedelta(hours=18, minutes=30)
    end = begin + timedelta(days=1)
    [spent] = DynamoSpend(reader).of([Span(BudgetScope(ScopeKind.PROJECT), begin, end)])
    assert spent.calls == 144
    assert len(seen.items) == 6
    assert not any("details" in item for item in seen.items)
    reader.close()
