"""What sink and reader promise, on DynamoDB Local and on moto."""

import zlib
from datetime import date, timedelta
from decimal import Decimal

import pytest

from nilometer.dynamodb import kept, schema, table
from nilometer.dynamodb.reader import Reader
from nilometer.errors import ConfigurationError
from nilometer.usage.answers import answer
from nilometer.usage.dimensions import DIMENSIONS
from nilometer.usage.fold import Row, fold
from nilometer.usage.groups import dimensions_of, latencies_of, values_of
from nilometer.usage.query import UsageQuery, parse
from tests.usage.metrics import JULY, metric

FIRST, LAST = date(2025, 7, 1), date(2025, 7, 31)


def asked(**parameters):
    given = {"start_date": "2025-07-01", "end_date": "2025-07-06"} | parameters
    return parse({name: [value] for name, value in given.items()}, today=LAST)


def expected(query, metrics):
    """What the pure rules make of the metrics."""
    rows = [
        Row(dimensions_of(each), values_of(each), latencies_of(each))
        for each in metrics
        if query.start <= each.timestamp.date() <= query.end
    ]
    return answer(query, fold(query, rows))


def many():
    """Metrics that differ in every dimension."""
    return [
        metric(
            service=("openai", "anthropic")[n % 2],
            model=("gpt-4o", "gpt-4o-mini", "claude-x")[n % 3],
            operation=("completion", "embedding")[n % 4 == 0],
            timestamp=JULY + timedelta(days=n % 5, hours=n % 24, microseconds=n),
            status=("success", "error")[n % 7 == 0],
            cost_usd=None if n % 6 == 0 else Decimal(n).scaleb(-9),
            latency=n / 1000,
            user_id=f"user-{n % 3}" if n % 4 else None,
            job_id=f"job-{n % 4}" if n % 5 else None,
            batch_id="b#1" if n % 2 else None,
            environment="production" if n % 3 else None,
            developer="ada",
            repository="acme/app",
        )
        for n in range(42)
    ]


LEVELS = ",".join(DIMENSIONS)
QUESTIONS = [
    {"aggregation": LEVELS},
    {"aggregation": LEVELS, "service": "openai"},
    {"aggregation": LEVELS, "service": "openai", "model": "gpt-4o"},
    {"aggregation": LEVELS, "user": "user-1"},
    {"aggregation": LEVELS, "job": "job-2", "status": "success"},
    {"aggregation": LEVELS, "job": "job-2", "user": "user-1"},
    {"aggregation": LEVELS, "environment": "production", "operation": "completion"},
    {"aggregation": LEVELS, "batch": "b#1"},
    {"aggregation": "", "group_by": "day,hour"},
    {"aggregation": "", "group_by": "user,model"},
    {"aggregation": "", "group_by": "job,day,service,status"},
    {"aggregation": "", "group_by": "day,model", "limit": "3"},
    {"aggregation": "", "start_date": "2025-07-02", "end_date": "2025-07-03"},
]


def test_a_metric_comes_back_as_it_was(made):
    stored = [
        metric(
            cost_usd=Decimal("123456789012345.123456789012345678"),
            metadata={"a": [1, {"b": 1e-07}]},
            tags=["x"],
            job_id="nightly",
        ),
        metric(
            service="google_places",
            model="places_api",
            operation="place_details",
            input_tokens=None,
            output_tokens=None,
            latency=1e-7,
            api_calls=3,
        ),
        metric(status="error", error_type="RateLimitError", error="slow down", http_status=429),
    ]
    assert made.sink().store(stored) == []
    found = made.reader().metrics(FIRST, LAST)
    assert {each.request_id: each for each in found} == {each.request_id: each for each in stored}


@pytest.mark.parametrize(
    ("scope", "fields"),
    [
        ("service", {"service": "anthropic"}),
        ("model", {"model": "m"}),
        ("job", {"job_id": "j"}),
        ("user", {"user_id": "u"}),
        ("batch", {"batch_id": "b"}),
        ("environment", {"environment": "e"}),
    ],
)
def test_metrics_are_found_by_every_scope(made, scope, fields):
    wanted, other = metric(**fields), metric()
    made.sink().store([wanted, other])
    filters = {scope: next(iter(fields.values()))}
    if scope == "model":
        filters["service"] = "openai"
    assert list(made.reader().metrics(FIRST, LAST, filters)) == [wanted]


def test_every_question_is_answered_as_the_rules_say(made):
    metrics = many()
    assert made.sink().store(metrics) == []
    reader = made.reader()
    for question in QUESTIONS:
        query = asked(**question)
        assert answer(query, reader.groups(query)) == expected(query, metrics), question


def test_a_repeated_write_changes_nothing(made):
    metrics = many()[:20]
    sink = made.sink()
    sink.store(metrics[:12])
    assert sink.store(metrics) == []
    assert made.sink().store([*metrics, *metrics]) == []
    query = asked(aggregation=LEVELS)
    assert answer(query, made.reader().groups(query)) == expected(query, metrics)
    items = [item for item in made.items() if item["TYPE"]["S"] == schema.TYPE]
    assert len(items) == len(metrics)


def test_items_expire_after_their_time_and_rollups_stay(made):
    made.sink(ttl_days=10).store([metric()])
    for item in made.items():
        assert (schema.TTL in item) is (item["TYPE"]["S"] == schema.TYPE)
    described = made.dynamodb.describe_time_to_live(TableName=made.name)
    assert described["TimeToLiveDescription"]["AttributeName"] == schema.TTL


def test_a_table_is_made_once_and_another_one_is_refused(made):
    assert table.create(made.dynamodb, made.name) is False
    other = f"{made.name}-other"
    made.dynamodb.create_table(
        TableName=other,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
    )
    with pytest.raises(ConfigurationError, match="primary key, GSI1"):
        table.create(made.dynamodb, other)
    made.dynamodb.delete_table(TableName=other)


def original(spelling, n):
    """An item as the original tracker wrote it: `first` in camel case, `second` in snake case."""
    names = {
        "first": ("requestId", "inputTokens", "outputTokens", "totalTokens", "costUSD", "apiCalls",
                  "latencyMs", "jobId"),
        "second": ("request_id", "input_tokens", "output_tokens", "total_tokens", "cost_usd",
                   "api_calls", "latency_ms", "job_id"),
    }[spelling]  # fmt: skip
    values = ({"S": f"r{n}"}, {"N": "10"}, {"N": "5"}, {"N": "15"}, {"N": "0.25"}, {"N": "2"},
              {"N": "300"}, {"S": "nightly"})  # fmt: skip
    moment = f"2025-07-0{n}T10:00:00+00:00"
    return {
        "PK": {"S": "AI_USAGE#openai#gpt-4"},
        "SK": {"S": f"USAGE#{moment}#r{n}"},
        "GSI1PK": {"S": "AI_USAGE#openai"},
        "GSI1SK": {"S": f"DATE#2025-07-0{n}"},
        "GSI2PK": {"S": "AI_USAGE_COST"},
        "GSI2SK": {"S": f"COST#2025-07-0{n}#openai"},
        "GSI3PK": {"S": "JOB#nightly"},
        "GSI3SK": {"S": f"AI_USAGE#{moment}"},
        "TYPE": {"S": "AIUsageMetric"},
        "service": {"S": "openai"},
        "model": {"S": "gpt-4"},
        "operation": {"S": "completion"},
        "timestamp": {"S": moment},
        "date": {"S": f"2025-07-0{n}"},
        **dict(zip(names, values, strict=True)),
    }


def test_items_of_both_original_spellings_are_in_the_answers(made):
    for n, spelling in ((1, "first"), (2, "second"), (3, "first")):
        made.dynamodb.put_item(TableName=made.name, Item=original(spelling, n))
    made.sink().store([metric(job_id="nightly")])
    query = asked(aggregation="day,job,hour,user", end_date="2025-07-02")
    found = answer(query, made.reader().groups(query))
    assert found["summary"]["total_cost_usd_exact"] == "0.500045"
    assert (found["summary"]["total_tokens"], found["summary"]["total_api_calls"]) == (180, 5)
    assert found["aggregations"]["by_job"]["nightly"]["call_count"] == 3
    assert sorted(found["aggregations"]["by_day"]) == ["2025-07-01", "2025-07-02"]
    assert found["aggregations"]["by_hour"]["10"]["cost_usd"] == 0.5
    assert found["summary"]["latency"]["count"] == 3


def test_a_question_that_reads_too_much_is_refused(made):
    made.sink().store(many()[:20])
    second = FIRST + timedelta(days=1)
    query = UsageQuery(second, second, {"job": "job-1", "user": "user-1"})
    with pytest.raises(Exception, match="more than 0 calls") as refused:
        made.reader(max_read=0).groups(query)
    assert refused.value.code == "too_many_calls"


def test_a_kept_day_is_made_anew_when_a_metric_is_added(made):
    query = asked(aggregation=LEVELS)
    metrics = [*many(), metric(timestamp=JULY + timedelta(days=2), user_id="late", model="late")]
    sink, reader = made.sink(), made.reader()
    for stored in (metrics[:-1], metrics[-1:]):
        assert sink.store(stored) == []
        for _ in range(2):
            groups = answer(query, reader.groups(query))
        assert answer(query, made.reader(keeps=False).groups(query)) == groups
    assert groups == expected(query, metrics)
    days = [item for item in made.items() if item["TYPE"]["S"] == kept.TYPE]
    assert {item["SK"]["S"] for item in days} == {f"DAY#2025-07-0{n}" for n in range(1, 6)}


def test_who_may_not_write_is_answered_all_the_same(local):
    class ReadOnly:
        def query(self, **request):
            return local.dynamodb.query(**request)

        def put_item(self, **request):
            return local.dynamodb.put_item(**request | {"ConditionExpression": "1 = 1"})

    query = asked(aggregation=LEVELS)
    assert local.sink().store(many()) == []
    reader = Reader(ReadOnly(), local.name)
    assert answer(query, reader.groups(query)) == expected(query, many())
    assert {item["TYPE"]["S"] for item in local.items()}.isdisjoint({"AIUsageKeptDay"})
    reader.close()


def test_a_day_whose_counts_are_too_large_is_answered_and_not_kept(local, monkeypatch):
    monkeypatch.setattr(kept, "MOST", 0)
    query = asked(aggregation=LEVELS)
    assert local.sink().store(many()) == []
    assert answer(query, local.reader().groups(query)) == expected(query, many())
    assert kept.partition("") not in {item["PK"]["S"] for item in local.items()}


ODD_DOCUMENTS = {
    "no compressed text": b"junk",
    "no JSON": zlib.compress(b"\x04\x00\x00\x00{{{{"),
    "another shape": zlib.compress(b"\x04\x00\x00\x00[[]]"),
    "no levels": zlib.compress(b"\x07\x00\x00\x00[[],{}]"),
    "empty": b"",
}


@pytest.mark.parametrize("document", ODD_DOCUMENTS.values(), ids=ODD_DOCUMENTS)
def test_a_kept_day_that_cannot_be_read_is_made_anew(local, document):
    query = asked(aggregation=LEVELS)
    assert local.sink().store(many()) == []
    reader = local.reader()
    right = answer(query, reader.groups(query))
    kept_days = [item for item in local.items() if item["TYPE"]["S"] == kept.TYPE]
    for item in kept_days:
        odd = {"document": {"B": document}} if document else {}
        rest = {name: value for name, value in item.items() if name != "document"}
        local.dynamodb.put_item(TableName=local.name, Item=rest | odd)
    assert answer(query, reader.groups(query)) == right
    now = [item for item in local.items() if item["TYPE"]["S"] == kept.TYPE]
    assert sorted(now, key=str) == sorted(kept_days, key=str)
