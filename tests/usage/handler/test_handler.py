"""The Lambda's handler over a table: its variables, its own connection, and what it answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from botocore.exceptions import ClientError

from nilometer.domain import clock
from nilometer.dynamodb import schema
from nilometer.usage import lambda_handler
from tests.dynamodb.conftest import new_table
from tests.usage.ai_usage_helpers import create_mock_usage_metric
from tests.usage.serverless import Shop, shop

pytestmark = pytest.mark.integration

JULY = datetime(2025, 7, 1, tzinfo=UTC)
WEEK = {"start_date": "2025-07-01", "end_date": "2025-07-07"}
SERVICES = {"openai": "gpt-4o-mini", "anthropic": "claude-sonnet-4-6", "google_places": "details"}
OPERATIONS = {"openai": "completion", "anthropic": "review", "google_places": "place"}


@pytest.fixture(scope="module")
def week(local_client: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A table with 7 days of 3 services, 4 calls each: n, which is unique, is its cost in mills."""
    with new_table(local_client) as made, shop(made, tmp_path_factory.mktemp("week")) as opened:
        sink = made.sink()
        assert sink.store(list(_week())) == []
        sink.close()
        yield opened


def _week() -> Iterator[Any]:
    number = 0
    for day in range(7):
        for service, model in SERVICES.items():
            for hour in (3, 9, 9, 15):
                number += 1
                yield create_mock_usage_metric(
                    service=service,
                    model=model,
                    operation=OPERATIONS[service],
                    timestamp=JULY + timedelta(days=day, hours=hour),
                    cost_usd=Decimal(number) / 1000,
                    input_tokens=number,
                    output_tokens=1,
                    api_calls=1 + (number == 1),
                    job_id=f"job-{number % 2}",
                )


WHOLE = Decimal(sum(range(1, 85))) / 1000


@pytest.fixture
def empty(shop_here: Shop) -> Shop:
    return shop_here


def test_without_parameters_it_answers_by_day_for_30_days(empty: Shop):
    today = clock.now()
    sink = empty.table.sink()
    sink.store([create_mock_usage_metric(timestamp=today - timedelta(days=n)) for n in (0, 5, 31)])
    body = empty.ask()
    assert list(body) == ["summary", "aggregations", "query"]
    first = (today - timedelta(days=30)).date().isoformat()
    assert body["summary"]["date_range"] == {"start": first, "end": today.date().isoformat()}
    assert body["query"]["aggregation"] == ["day"]
    assert len(body["aggregations"]["by_day"]) == 2
    assert body["summary"]["total_api_calls"] == 2


@pytest.mark.parametrize("service", [*SERVICES])
def test_a_service_alone(week: Shop, service: str):
    body = week.ask(**WEEK, service=service.upper(), aggregation="service,model,operation")
    assert list(body["aggregations"]["by_service"]) == [service]
    assert list(body["aggregations"]["by_model"]) == [SERVICES[service]]
    assert list(body["aggregations"]["by_operation"]) == [OPERATIONS[service]]
    assert body["summary"]["call_count"] == 28


def test_an_operation_alone(week: Shop):
    body = week.ask(**WEEK, operation="review", aggregation="service")
    assert list(body["aggregations"]["by_service"]) == ["anthropic"]
    assert week.ask(**WEEK, operation="nothing")["summary"]["call_count"] == 0


@pytest.mark.parametrize(
    ("level", "keys"),
    [
        ("day", [f"2025-07-0{day}" for day in range(1, 8)]),
        ("hour", ["03", "09", "15"]),
        ("service", sorted(SERVICES)),
        ("model", sorted(SERVICES.values())),
        ("operation", sorted(OPERATIONS.values())),
        ("job", ["job-0", "job-1"]),
    ],
)
def test_every_level_adds_up_to_the_whole(week: Shop, level: str, keys: list[str]):
    body = week.ask(**WEEK, aggregation=level)
    groups = body["aggregations"][f"by_{level}"]
    assert sorted(groups) == keys
    exact = [Decimal(each["cost_usd_exact"]) for each in groups.values()]
    assert sum(exact) == Decimal(body["summary"]["total_cost_usd_exact"]) == WHOLE
    assert sum(each["tokens"] for each in groups.values()) == body["summary"]["total_tokens"]
    assert sum(each["api_calls"] for each in groups.values()) == 85  # one call stands for two
    assert sum(each["call_count"] for each in groups.values()) == 84


def test_a_day_of_the_week_alone(week: Shop):
    body = week.ask(start_date="2025-07-02", end_date="2025-07-02", aggregation="day,hour")
    assert Decimal(body["summary"]["total_cost_usd_exact"]) == Decimal(sum(range(13, 25))) / 1000
    assert {key: each["call_count"] for key, each in body["aggregations"]["by_hour"].items()} == {
        "03": 3,
        "09": 6,
        "15": 3,
    }


def test_levels_combine_and_pages_go_on(week: Shop):
    asked = {**WEEK, "aggregation": "", "group_by": "day,service", "limit": "8"}
    found, cursor = [], None
    for _ in range(3):
        page = week.ask(**asked, **({"cursor": cursor} if cursor else {}))["groups"]
        found += page["results"]
        cursor = page["next_cursor"]
    assert cursor is None
    assert [(each["day"], each["service"]) for each in found] == [
        (f"2025-07-0{day}", service) for day in range(1, 8) for service in sorted(SERVICES)
    ]
    assert sum(Decimal(each["cost_usd_exact"]) for each in found) == WHOLE


def test_nothing_is_left_out_of_what_dynamodb_answers_in_pages(empty: Shop):
    """1 MB ends a page: a question that reads every call, over partitions of more than that."""
    metrics = [
        create_mock_usage_metric(
            timestamp=JULY, cost_usd=Decimal(1), metadata={"text": "x" * 90_000}
        )
        for _ in range(64)
    ]
    sink = empty.table.sink()
    assert sink.store(metrics) == []
    sink.close()
    _, partitions = schema.partitions({"job": "test-job-123"}, ["2025-07-01"])
    pages = [
        empty.table.dynamodb.query(
            TableName=empty.table.name,
            IndexName="GSI3",
            KeyConditionExpression="GSI3PK = :key",
            ExpressionAttributeValues={":key": {"S": each}},
        )
        for each in partitions
    ]
    assert any("LastEvaluatedKey" in page for page in pages)  # which one, the ids decide
    both = {"user": "test-user", "job": "test-job-123"}
    assert empty.ask(**WEEK, **both)["summary"]["total_cost_usd_exact"] == "64"


def test_an_error_is_500_and_tells_nothing_of_itself(
    empty: Shop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """A table that is not there: DynamoDB's own error, from the handler's own connection."""
    monkeypatch.setenv(lambda_handler.TABLE, "not-there")
    status, body = empty.answer(WEEK)
    lambda_handler._readers.pop("not-there").close()
    assert (status, body["code"]) == (500, "error")
    assert "not-there" not in json.dumps(body)
    assert "ResourceNotFoundException" in caplog.text


def test_a_handler_without_a_table_says_so_in_the_log_alone(
    empty: Shop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.delenv(lambda_handler.TABLE)
    status, body = empty.answer(WEEK)
    assert (status, body["code"]) == (500, "error")
    assert "DYNAMODB_TABLE_NAME" in caplog.text


def test_a_busy_table_is_503_with_retry_after(empty: Shop, monkeypatch: pytest.MonkeyPatch):
    class Busy:
        def query(self, **_: Any) -> Any:
            raise ClientError({"Error": {"Code": "ThrottlingException"}}, "Query")

    empty.ask(**WEEK)
    reader = lambda_handler._readers[empty.table.name]
    monkeypatch.setattr(reader._pages, "_dynamodb", Busy())
    event = {"httpMethod": "GET", "queryStringParameters": WEEK}
    found = lambda_handler.handler(event | {"headers": {"Authorization": "Bearer a-readers-key"}})
    assert (found["statusCode"], found["headers"]["Retry-After"]) == (503, "1")
    assert json.loads(found["body"])["code"] == "unavailable"


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"start_date": "garbage"}, "invalid_date"),
        ({"start_date": "2025-07-08", "end_date": "2025-07-01"}, "reversed_range"),
        ({"aggregation": "weather"}, "unknown_aggregation"),
        ({"colour": "red"}, "unknown_parameter"),
    ],
)
def test_a_bad_question_is_400_with_a_code(week: Shop, wrong: dict[str, str], code: str):
    status, body = week.answer(wrong)
    assert (status, body["statusCode"], body["code"]) == (400, 400, code)


def test_a_service_that_nobody_used_and_an_empty_table_are_empty(week: Shop):
    body = week.ask(**WEEK, service="nobody")
    assert (body["summary"]["total_cost_usd"], body["aggregations"]["by_day"]) == (0, {})
    assert body["summary"]["average_cost_per_call"] == 0
    before = week.ask(start_date="2024-01-01", end_date="2024-01-31")
    assert (before["summary"]["call_count"], before["summary"]["total_tokens"]) == (0, 0)


def test_nobody_is_answered_without_the_key(week: Shop):
    assert week.answer(WEEK, headers={})[0] == 401
    assert week.answer(WEEK, headers={"authorization": "Bearer another"})[0] == 401


def test_questions_at_once_have_the_same_answer(week: Shop):
    asked = {**WEEK, "aggregation": "day,service,model,operation,hour,job"}
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: week.ask(**asked), range(6)))
    assert all(each == answers[0] for each in answers)
    assert Decimal(answers[0]["summary"]["total_cost_usd_exact"]) == WHOLE


def test_1000_calls_are_added_up_exactly(empty: Shop):
    """Of decimals that no float holds."""
    tenth = Decimal("0.1") + Decimal("1e-18")
    sink = empty.table.sink()
    metrics = [create_mock_usage_metric(timestamp=JULY, cost_usd=tenth) for _ in range(1000)]
    assert sink.store(metrics) == []
    sink.close()
    body = empty.ask(**WEEK, aggregation="service")
    assert body["summary"]["total_cost_usd_exact"] == "100.000000000000001"
    assert body["aggregations"]["by_service"]["openai"]["call_count"] == 1000


def test_numbers_are_rounded_and_exact_side_by_side(empty: Shop):
    sink = empty.table.sink()
    sink.store([create_mock_usage_metric(timestamp=JULY, cost_usd=Decimal("10.123456789"))])
    sink.store([create_mock_usage_metric(timestamp=JULY, cost_usd=None, model="nobody-prices")])
    summary = empty.ask(**WEEK)["summary"]
    assert (summary["total_cost_usd"], summary["total_cost_usd_exact"]) == (10.1235, "10.123456789")
    assert (summary["total_tokens"], summary["unpriced_count"]) == (300, 1)
    assert type(summary["total_tokens"]) is int
