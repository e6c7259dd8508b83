"""Budgets without a server, on both implementations of DynamoDB: spend from the rollups, alerts
that fire once and are told whatever dies meanwhile, and the stop that the client library reads."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from typer.testing import CliRunner

from nilometer import BudgetExceeded, ClientConfig, ClientManager, usage_context
from nilometer.budgets import (
    dynamodb_alerts,
    dynamodb_items,
    environment_channels,
    lambda_handler,
    parsing,
)
from nilometer.budgets.budget import Budget, BudgetScope, ScopeKind
from nilometer.budgets.dynamodb_spend import DynamoSpend
from nilometer.budgets.evaluation import assess
from nilometer.budgets.spend import Span
from nilometer.cli.app import SERVER_MODULES, app
from nilometer.domain import clock
from nilometer.domain.usage_metric import AIUsageMetric
from nilometer.errors import ConfigurationError, InvalidInput, Unavailable
from nilometer.notifications import signature
from nilometer.notifications.notification import Notification
from tests.budgets.making import Ledger, budget, utc
from tests.dynamodb.conftest import Table, local, local_client, made, moto_client, new_table
from tests.integrations import upstream
from tests.usage.metrics import JULY, metric

__all__ = ["local", "local_client", "made", "moto_client"]

SECRET = signature.new_secret()
BUDGET = {"name": "team", "amount_usd": "1", "period": "month", "hard_stop": True}


class Lambda:
    """The function, with a table and somebody who hears of it."""

    def __init__(self, table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
        self.table = table
        self.told: list[Notification] = []
        self.fails: Exception | None = None
        self.now = utc(2025, 7, 2)
        monkeypatch.setenv(lambda_handler.TABLE, table.name)
        reader = table.reader()
        self.close = reader.close
        monkeypatch.setattr(lambda_handler, "_connections", {table.name: (table.dynamodb, reader)})
        monkeypatch.setattr(lambda_handler, "channels_from", lambda _: {"ops": self})
        monkeypatch.setattr(clock, "now", lambda: self.now)

    def send(self, notification: Notification) -> None:
        if self.fails:
            raise self.fails
        self.told.append(notification)

    def run(self, event: Any = None) -> dict[str, Any]:
        return lambda_handler.handler(event or {"source": "aws.events"})

    def spend(
        self, *costs: str | None, at: datetime = JULY + timedelta(hours=12), **more: Any
    ) -> None:
        sink = self.table.sink()
        made = [
            metric(
                timestamp=at,
                cost_usd=None if cost is None else Decimal(cost),
                **more,
            )
            for cost in costs
        ]
        assert sink.store(made) == []

    def set(self, *budgets: dict[str, Any], at: datetime = JULY) -> tuple[int, int]:
        text = json.dumps(budgets)
        return dynamodb_items.replace(self.table.dynamodb, self.table.name, text, at)


@pytest.fixture
def function(made: Table, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lambda]:
    function = Lambda(made, monkeypatch)
    yield function
    function.close()


@pytest.fixture
def on_local(local: Table, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lambda]:
    function = Lambda(local, monkeypatch)
    yield function
    function.close()


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that DynamoDB Local takes: any."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "nilometer")


def told(function: Lambda) -> list[str]:
    return sorted(each.facts["threshold"] for each in function.told)


def test_each_threshold_is_told_once_a_period(function: Lambda) -> None:
    function.set(BUDGET)
    assert function.run() == {"budgets": 1, "fired": [], "sent": 0, "waiting": 0}
    function.spend("0.49", None)
    assert function.run()["fired"] == []
    function.spend("0.01")
    assert function.run()["sent"] == 1
    assert function.run() == {"budgets": 1, "fired": [], "sent": 0, "waiting": 0}
    function.spend("0.6")
    assert function.run()["sent"] == 2
    assert told(function) == ["100%", "50%", "80%"]
    full = next(each for each in function.told if each.facts["threshold"] == "100%")
    assert full.facts["spent_usd"] == "1.1"
    assert full.facts["unpriced_calls"] == "1"
    assert "1 calls have no known price" in full.text
    assert "Calls are stopped" in full.text
    assert len({each.id for each in function.told}) == 3
    function.now = utc(2025, 8, 3)
    assert function.run()["fired"] == []


def test_usage_of_the_last_day_that_comes_late_still_fires(on_local: Lambda) -> None:
    on_local.set(BUDGET)
    on_local.spend("0.6")
    on_local.now = utc(2025, 8, 1, 3)
    assert len(on_local.run()["fired"]) == 1
    assert on_local.told[0].facts["period"] == "2025-07"


def test_functions_at_once_tell_each_threshold_once(on_local: Lambda) -> None:
    on_local.set(BUDGET)
    on_local.spend("1.5")
    with ThreadPoolExecutor(8) as pool:
        ran = list(pool.map(lambda _: on_local.run(), range(16)))
    assert told(on_local) == ["100%", "50%", "80%"]
    assert sorted(each for one in ran for each in one["fired"]) == sorted(
        f"team#2025-07-01T00:00:00+00:00#{threshold:04}" for threshold in (50, 80, 100)
    )


def test_what_a_dying_function_left_the_next_one_tells(function: Lambda) -> None:
    function.set(BUDGET | {"thresholds": [100]})
    function.spend("1")
    function.fails = RuntimeError("killed")  # between the alert and its telling
    with pytest.raises(RuntimeError):
        function.run()
    function.fails = None
    assert function.run() == {"budgets": 1, "fired": [], "sent": 0, "waiting": 1}  # it is leased
    function.now += dynamodb_alerts.LEASE
    assert function.run()["sent"] == 1
    assert told(function) == ["100%"]


def test_a_channel_that_fails_is_tried_until_it_is_given_up(on_local: Lambda) -> None:
    on_local.set(BUDGET | {"thresholds": [100]})
    on_local.spend("1")
    on_local.fails = dynamodb_alerts.TemporaryFailure("down", code="http_503", retry_after=600)
    assert on_local.run()["waiting"] == 1
    on_local.now += timedelta(seconds=500)
    on_local.fails = None
    assert on_local.run()["waiting"] == 1  # the receiver wants to be asked later
    on_local.now += timedelta(seconds=101)
    assert on_local.run() == {"budgets": 1, "fired": [], "sent": 1, "waiting": 0}
    state = {each["state"]["S"] for each in alerts(on_local)}
    assert state == {"sent"}

    on_local.set(BUDGET | {"thresholds": [90]})
    on_local.fails = dynamodb_alerts.TemporaryFailure("down", code="http_503")
    on_local.run()
    on_local.now += dynamodb_alerts.GIVE_UP_AFTER
    assert on_local.run()["waiting"] == 0
    assert {each["state"]["S"] for each in alerts(on_local)} == {"sent", "ops: http_503"}


def test_a_channel_that_refuses_or_is_not_there_does_not_keep_the_others(on_local: Lambda) -> None:
    on_local.set(BUDGET | {"thresholds": [100], "channels": ["gone", "ops"]})
    on_local.spend("1")
    assert on_local.run() == {"budgets": 1, "fired": alerts_of(100), "sent": 1, "waiting": 0}
    assert [each["state"]["S"] for each in alerts(on_local)] == ["gone: no_channel"]


def test_a_raised_amount_lets_a_threshold_fire_once_more(on_local: Lambda) -> None:
    on_local.set(BUDGET | {"thresholds": [50, 100]})
    on_local.spend("1")
    assert on_local.run()["fired"] == alerts_of(50, 100)
    on_local.set(BUDGET | {"thresholds": [50, 100], "amount_usd": "2"})
    assert on_local.run()["fired"] == []  # half of it is spent still
    on_local.spend("1")
    assert on_local.run()["fired"] == alerts_of(100)
    assert len({each.id for each in on_local.told}) == 3


def alerts(function: Lambda) -> list[dict[str, Any]]:
    return list(dynamodb_items.query(function.table.dynamodb, function.table.name, "ALERT#"))


def alerts_of(*thresholds: int) -> list[str]:
    return [f"team#2025-07-01T00:00:00+00:00#{each:04}" for each in thresholds]


def test_what_the_function_itself_writes_is_no_reason_to_look_again(on_local: Lambda) -> None:
    on_local.set(BUDGET)
    on_local.spend("1")
    items = on_local.table.items()
    keys = [{"dynamodb": {"Keys": {"PK": each["PK"], "SK": each["SK"]}}} for each in items]
    own = [each for each in keys if not each["dynamodb"]["Keys"]["PK"]["S"].startswith("AI_USAGE#")]
    assert len(own) >= 2
    assert on_local.run({"Records": own})["budgets"] == 0
    assert on_local.run({"Records": keys})["budgets"] == 1


def test_the_client_library_stops_by_what_the_function_wrote(on_local: Lambda, keys: None) -> None:
    on_local.now = datetime.now(UTC)
    on_local.set(BUDGET | {"scope": "user", "value": "ada"})
    sink = on_local.table.sink()
    assert sink.store([metric(timestamp=on_local.now, cost_usd=Decimal(1), user_id="ada")]) == []
    on_local.run()
    endpoint = on_local.table.dynamodb.meta.endpoint_url
    config = ClientConfig(
        sink="memory://",
        spool=False,
        handle_sigterm=False,
        hard_stop=True,
        budget_check=f"dynamodb://{on_local.table.name}?region=us-east-1&endpoint_url={endpoint}",
    )
    with ClientManager(config) as manager:
        with usage_context(user_id="ada"), pytest.raises(BudgetExceeded, match="team"):
            manager.tracker.admit("openai", "gpt-4o-mini")
        with usage_context(user_id="bob"):
            manager.tracker.admit("openai", "gpt-4o-mini")
        on_local.set()
        on_local.run()  # the budget is gone, and with it how it stood
        assert manager.refresh_budgets()
        with usage_context(user_id="ada"):
            manager.tracker.admit("openai", "gpt-4o-mini")
        on_local.set(BUDGET)
        on_local.run()
        on_local.now += dynamodb_items.STALE + timedelta(seconds=1)
        assert not manager.refresh_budgets()  # nobody evaluates any more


SPANS = [
    (utc(2025, 7, 1), utc(2025, 8, 1)),
    (utc(2025, 7, 1, 5, 30), utc(2025, 7, 2, 5, 30)),  # a day in Kolkata, less an hour
    (utc(2025, 6, 30, 18, 15), utc(2025, 7, 1, 18, 15)),  # a day in Kathmandu
    (utc(2025, 7, 1, 12, 10), utc(2025, 7, 1, 12, 20)),
]


def test_spend_is_that_of_the_metrics_to_the_microsecond(on_local: Lambda) -> None:
    moments = [utc(2025, 6, 30, 18, 14) + timedelta(minutes=23 * n) for n in range(70)]
    found: list[AIUsageMetric] = []
    for n, at in enumerate(moments):
        cost = None if n % 7 == 0 else Decimal(f"0.00000000000000{n + 1:04}")
        more = {"user_id": "ada", "service": "anthropic"} if n % 2 else {"job_id": "j#1"}
        found.append(metric(timestamp=at, cost_usd=cost, environment="test", **more))
    sink = on_local.table.sink()
    assert sink.store(found) == []
    scopes = [
        (BudgetScope(ScopeKind.PROJECT), lambda each: True),
        (BudgetScope(ScopeKind.GLOBAL), lambda each: True),
        (BudgetScope(ScopeKind.USER, "ada"), lambda each: each.user_id == "ada"),
        (BudgetScope(ScopeKind.JOB, "j#1"), lambda each: each.job_id == "j#1"),
        (BudgetScope(ScopeKind.SERVICE, "Anthropic"), lambda each: each.service == "anthropic"),
        (BudgetScope(ScopeKind.MODEL, "gpt-4o-mini"), lambda each: True),
        (BudgetScope(ScopeKind.ENVIRONMENT, "test"), lambda each: True),
        (BudgetScope(ScopeKind.ENVIRONMENT, "live"), lambda each: False),
    ]
    spans = [Span(scope, *span) for scope, _ in scopes for span in SPANS]
    reader = on_local.table.reader()
    spent = DynamoSpend(reader).of(spans)
    reader.close()
    covers = dict(scopes)
    for span, each in zip(spans, spent, strict=True):
        ledger = Ledger(
            *(
                (one.timestamp, None if one.cost_usd is None else str(one.cost_usd))
                for one in found
                if covers[span.scope](one)
            )
        )
        wanted = ledger.of([span])[0]
        assert (each.cost, each.calls, each.unpriced) == (
            *(wanted.cost, wanted.calls, wanted.unpriced),
        )


def test_spend_and_server_agree_on_what_a_budget_is(on_local: Lambda) -> None:
    on_local.spend("0.25", user_id="ada")
    reader = on_local.table.reader()
    team = budget(scope=BudgetScope(ScopeKind.USER, "ada"), amount=Decimal("0.5"))
    [found] = assess(DynamoSpend(reader), [team], utc(2025, 7, 15))
    reader.close()
    assert (found.current.percent, found.current.crossed) == (50, (50,))


def test_budgets_are_read_from_json_and_refused_with_the_member() -> None:
    [found] = parsing.parse_all(
        json.dumps(
            [
                BUDGET
                | {"id": "a#b", "scope": "service", "value": "OpenAI", "thresholds": [10]}
                | {"rollover_cap_usd": "5", "created_at": "2025-01-01T00:00:00+01:00"}
                | {"time_zone": "Asia/Kolkata", "channels": ["sns"]}
            ]
        )
    )
    assert isinstance(found, Budget)
    assert (found.id, str(found.scope), found.thresholds) == ("a%23b", "service openai", (10,))
    assert (found.rollover_cap, found.channels, found.hard_stop) == (5, ("sns",), True)
    for change, attr in (
        ({"amount_usd": 5}, "amount_usd"),
        ({"amount_usd": "lots"}, "amount_usd"),
        ({"period": "fortnight"}, "period"),
        ({"scope": "moon"}, "scope"),
        ({"thresholds": "50"}, "thresholds"),
        ({"thresholds": [50.5]}, "thresholds"),
        ({"channels": [1]}, "channels"),
        ({"rollover_cap_usd": "5"}, "created_at"),
        ({"created_at": "2025-01-01T00:00:00"}, "created_at"),
        ({"created_at": "yesterday"}, "created_at"),
        ({"past_amounts": "5"}, "past_amounts"),
        ({"past_amounts": [["2025-01-01T00:00:00Z"]]}, "past_amounts"),
        ({"past_amounts": [["2025-01-01T00:00:00Z", 5]]}, "past_amounts"),
        ({"past_amounts": [["2025-01-01T00:00:00Z", "0"]]}, "past_amounts"),
        ({"past_amounts": [["2025-01-01T00:00:00", "5"]]}, "past_amounts"),
        ({"ammount": "5"}, "ammount"),
        ({"amount": "5"}, "amount_usd"),  # both names
        ({"name": None}, "name"),
    ):
        with pytest.raises(InvalidInput) as error:
            parsing.parse_all(json.dumps([BUDGET | change]))
        assert error.value.attr == attr
    for text in ("{", "{}", "[1]", json.dumps([BUDGET, BUDGET])):
        with pytest.raises(InvalidInput):
            parsing.parse_all(text)


def test_names_of_the_first_release_are_still_read() -> None:
    today = BUDGET | {"scope": "user", "value": "ada", "created_at": "2025-01-01T00:00:00+00:00"}
    names = {"amount_usd": "amount", "value": "scope_value"}
    before = {names.get(name, name): value for name, value in today.items()}
    assert parsing.parse(before) == parsing.parse(today)
    capped = parsing.parse(before | {"rollover_cap": "5"})
    assert capped == parsing.parse(today | {"rollover_cap_usd": "5"})
    assert capped.rollover_cap == 5


def test_budgets_of_the_environment_come_first(
    on_local: Lambda, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert on_local.set(BUDGET, BUDGET | {"name": "b"}) == (2, 0)
    assert on_local.run()["budgets"] == 2
    assert on_local.set(BUDGET) == (1, 1)
    assert on_local.run()["budgets"] == 1
    monkeypatch.setenv(lambda_handler.BUDGETS, json.dumps([BUDGET, BUDGET | {"id": "x"}]))
    assert on_local.run()["budgets"] == 2


def test_the_command_replaces_the_budgets_of_a_table(
    on_local: Lambda, keys: None, tmp_path: Path
) -> None:
    def run(*arguments: str) -> Any:
        endpoint = on_local.table.dynamodb.meta.endpoint_url
        where = ["--region", "us-east-1", "--endpoint-url", endpoint]
        given = ["usage", "dynamodb", "set-budgets", on_local.table.name, *arguments]
        return CliRunner().invoke(app, [*given, *where])

    file = tmp_path / "budgets.json"
    file.write_text(json.dumps([BUDGET, BUDGET | {"name": "b"}]))
    assert run(str(file), "--dry-run").stdout == "The file has 2 budgets, and is in order.\n"
    assert on_local.run()["budgets"] == 0
    done = json.loads(run(str(file), "--json").stdout)
    assert (done["budgets"], done["deleted"]) == (2, 0)
    file.write_text(json.dumps([BUDGET]))
    assert "has 1 budgets; 1 others are deleted" in run(str(file)).stdout
    assert on_local.run()["budgets"] == 1
    file.write_text(json.dumps([BUDGET | {"period": "day"}]))
    other = run(str(file))
    assert (other.exit_code, other.stdout) == (1, "")
    assert other.stderr.startswith("nilometer: the budget team is in the table with another period")
    file.write_text(json.dumps([BUDGET | {"period": "fortnight"}]))
    wrong = run(str(file))
    assert (wrong.exit_code, wrong.stderr[:29]) == (1, "nilometer: period is one of d")
    assert run(str(tmp_path / "none")).exit_code == 1


def test_the_function_needs_none_of_the_server() -> None:
    blocked = f"import sys; sys.modules |= dict.fromkeys({sorted(SERVER_MODULES - {'pydantic'})})"
    code = f"{blocked}; from nilometer.budgets.lambda_handler import handler"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


class Away:
    """A table that does not answer."""

    def __init__(self, code: str = "ThrottlingException") -> None:
        self.error = ClientError({"Error": {"Code": code, "Message": "busy"}}, "Query")

    def __getattr__(self, name: str) -> Any:
        def fail(*_: Any, **__: Any) -> Any:
            raise self.error

        return fail


def test_a_table_that_does_not_answer_is_told_and_nothing_is_decided(on_local: Lambda) -> None:
    with pytest.raises(Unavailable, match="busy"):
        DynamoSpend(Away()).of([Span(BudgetScope(ScopeKind.PROJECT), *SPANS[0])])  # type: ignore[arg-type]
    with pytest.raises(Unavailable):
        dynamodb_items.TableStandings(Away(), "t").ask()
    on_local.set(BUDGET)
    on_local.spend("1")
    [found] = assess(
        Ledger((utc(2025, 7, 1), "1")), [budget(hard_stop=True, amount=Decimal(1))], utc(2025, 7, 2)
    )
    told = lambda_handler.notification("x", found.current, 100)
    alert = dynamodb_alerts.Alert("x", "1", "", told, ("ops",))
    with pytest.raises(ClientError):
        dynamodb_alerts.Alerts(Away(), "t", {}).fire(alert, on_local.now)
    on_local.fails = RuntimeError("killed")
    with pytest.raises(RuntimeError):
        on_local.run()
    on_local.now += dynamodb_alerts.LEASE
    on_local.fails = None
    assert on_local.run()["sent"] >= 1


def test_many_items_are_read_to_the_last_page() -> None:
    pages = [
        {"Items": [{"n": {"N": "1"}}], "LastEvaluatedKey": {"PK": {"S": "k"}}},
        {"Items": [{"n": {"N": "2"}}]},
    ]
    asked: list[Any] = []

    class Paged:
        def query(self, **given: Any) -> Any:
            asked.append(given.get("ExclusiveStartKey"))
            return pages[len(asked) - 1]

    assert len(list(dynamodb_items.query(Paged(), "t", "ALERT#"))) == 2
    assert asked == [None, {"PK": {"S": "k"}}]


def test_a_function_without_a_table_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(lambda_handler.TABLE, raising=False)
    with pytest.raises(ConfigurationError, match=lambda_handler.TABLE):
        lambda_handler.handler({})
    assert lambda_handler.concerns_usage({"Records": [{"eventSource": "aws:sqs"}]})


def test_channels_are_made_of_the_environment() -> None:
    variables = {
        environment_channels.TOPIC: "arn:aws:sns:eu-west-1:123456789012:spend",
        environment_channels.WEBHOOK: "https://example.com/hook",
        environment_channels.SECRET: SECRET,
        environment_channels.SLACK: "https://hooks.slack.com/services/x",
    }
    assert list(environment_channels.channels_from(variables)) == ["sns", "webhook", "slack"]
    assert environment_channels.channels_from({}) == {}
    for name in variables:
        with pytest.raises(ConfigurationError, match=name) as error:
            environment_channels.channels_from(variables | {name: "wrong-secret"})
        assert "wrong-secret" not in str(error.value)
    del variables[environment_channels.SECRET]
    with pytest.raises(ConfigurationError, match=environment_channels.SECRET):
        environment_channels.channels_from(variables)


def test_an_alert_reaches_a_topic_and_a_webhook(
    moto_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the channels that the environment names, and nothing that stands for them."""
    where = {"endpoint_url": moto_client.meta.endpoint_url, "region_name": "us-east-1"}
    keys = {"aws_access_key_id": "k", "aws_secret_access_key": "k"}
    sns, sqs = boto3.client("sns", **where, **keys), boto3.client("sqs", **where, **keys)
    topic = sns.create_topic(Name="spend")["TopicArn"]
    queue = sqs.create_queue(QueueName="heard")["QueueUrl"]
    found = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=found["QueueArn"])
    receiver = Receiver()
    with new_table(moto_client) as table, upstream.serving(receiver.answer) as url:
        for name, value in {
            lambda_handler.TABLE: table.name,
            lambda_handler.BUDGETS: json.dumps([BUDGET | {"thresholds": [100]}]),
            environment_channels.TOPIC: topic,
            environment_channels.WEBHOOK: url,
            environment_channels.SECRET: SECRET,
            environment_channels.NETWORKS: "127.0.0.0/8",
            "AWS_ACCESS_KEY_ID": "k",
            "AWS_SECRET_ACCESS_KEY": "k",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL_DYNAMODB": where["endpoint_url"],
            "AWS_ENDPOINT_URL_SNS": where["endpoint_url"],
        }.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(lambda_handler, "_connections", {})
        sink = table.sink()
        start = clock.now()
        assert sink.store([metric(timestamp=start, cost_usd=Decimal(1))]) == []
        # Every look at the clock is a second later: what fires while the function runs is due.
        ticks = itertools.count()
        monkeypatch.setattr(clock, "now", lambda: start + timedelta(seconds=next(ticks)))
        receiver.status = 503
        assert lambda_handler.handler({}) | {"fired": []} == {
            "budgets": 1,
            "fired": [],
            "sent": 1,
            "waiting": 1,
        }
        receiver.status = 204
        later = clock.now() + timedelta(hours=1)
        monkeypatch.setattr(clock, "now", lambda: later)
        assert lambda_handler.handler({})["sent"] == 1
        assert lambda_handler.handler({})["sent"] == 0
        connection, reader = lambda_handler._connections.pop(table.name)
        reader.close()
        connection.close()
    [message] = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)["Messages"]
    heard = json.loads(json.loads(message["Body"])["Message"])
    [(identity, body)] = receiver.taken
    assert heard["data"]["id"] == body["data"]["id"] == identity
    assert body["type"] == "budget.threshold"
    assert body["data"]["facts"]["spent_usd"] == "1"


class Receiver:
    """A webhook's server: checks who sends, and takes it or answers with `status`."""

    def __init__(self) -> None:
        self.status = 204
        self.taken: list[tuple[str, dict[str, Any]]] = []

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        if self.status == 204:
            sent = {name.lower(): value for name, value in handler.headers.items()}
            body: bytes = handler.body  # type: ignore[attr-defined]
            signature.verify(SECRET, sent, body)
            self.taken.append((sent["webhook-id"], json.loads(body)))
        handler.send_response(self.status)
        handler.send_header("content-length", "0")
        handler.end_headers()
