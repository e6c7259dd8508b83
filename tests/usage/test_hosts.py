"""The two hosts of the contract, answer by answer: the server over HTTP, and the Lambda."""

from __future__ import annotations

import hashlib
import itertools
import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nilometer.dynamodb import table
from nilometer.dynamodb.reader import Reader
from nilometer.dynamodb.sink import DynamoSink
from nilometer.pipeline.event_rows import CanonicalEvent, rows_of
from nilometer.sdk.assembly import Assembler
from nilometer.sdk.calculator import CostCalculator
from nilometer.sdk.observation import Observation
from nilometer.sdk.scopes import NOTHING
from nilometer.sdk.sinks.events import event
from nilometer.sdk.sinks.jsonl import JsonlSink
from nilometer.usage import lambda_handler
from nilometer.usage.answers import answer
from nilometer.usage.dimensions import DIMENSIONS
from nilometer.usage.jsonl import JsonlUsage
from nilometer.usage.query import parse
from tests.usage.metrics import JULY, metric, metrics

KEY = "k"
ALL = ",".join(DIMENSIONS)
_months = itertools.count()


class Hosts:
    """A project of a server and a table with the same metrics."""

    def __init__(self, world, local, name):
        self.project = world.project()
        self.sink = DynamoSink(name, dynamodb=local)
        self.store = world.services.store

    def put(self, found, *, sent=None):
        """Store metrics; `sent` are those that the server gets, where it gets others."""
        assert self.sink.store(found) == []
        self.store.insert_lines("calls", [self._call(each) for each in sent or found])

    def _call(self, each) -> bytes:
        """The row that the pipeline makes of the event that the client library sends."""
        sent = event(each, "test")
        canonical = CanonicalEvent(
            project_id=self.project.id,
            uuid=sent["uuid"],
            door="posthog",
            source_rank=10,
            accepted_at=1_760_000_000_000_000,
            retention_days=30,
            ip="",
            name=sent["event"],
            distinct_id=sent["distinct_id"],
            timestamp=datetime.fromisoformat(sent["timestamp"]).astimezone(UTC),
            properties=json.loads(json.dumps(sent["properties"])),
            properties_text="{}",
        )
        call = rows_of(canonical).call
        assert call is not None
        return call

    def server(self, **parameters: str) -> Any:
        answer = self.project.get("usage/", **parameters)
        return answer.status_code, answer.json(), answer.headers.get("etag")

    def serverless(self, **parameters: str) -> Any:
        found = lambda_handler.handler(
            {
                "httpMethod": "GET",
                "headers": {"authorization": f"Bearer {KEY}"},
                "queryStringParameters": parameters,
            }
        )
        return found["statusCode"], json.loads(found["body"]), found["headers"].get("ETag")

    def same(self, **parameters: str) -> Any:
        """The answer, which both give."""
        theirs = self.serverless(**parameters)
        assert self.server(**parameters) == theirs
        assert theirs[0] == 200, theirs
        return theirs[1]


@pytest.fixture(scope="module")
def hosts(world, dynamodb_local):
    local, name = dynamodb_local.client(), f"test-{uuid4().hex}"
    table.create(local, name, sleep=lambda _: None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(lambda_handler.TABLE, name)
        patch.setenv(lambda_handler.KEY_HASHES, hashlib.sha256(KEY.encode()).hexdigest())
        patch.setattr(lambda_handler, "_readers", {name: Reader(local, name)})
        yield Hosts(world, local, name)
    local.delete_table(TableName=name)


def questions(start: date):
    """Every way to ask: each level, filters of every kind, combinations and their pages."""
    days = {"start_date": start.isoformat(), "end_date": (start + timedelta(days=2)).isoformat()}
    yield days | {"aggregation": ALL}
    yield days | {"aggregation": ALL, "service": "OpenAI", "model": "gpt-x"}
    yield days | {"aggregation": ALL, "user": "a"}
    yield days | {"aggregation": ALL, "job": "é#1", "status": "error"}
    yield days | {"aggregation": ALL, "user": "a", "batch": "b"}
    yield days | {"aggregation": ALL, "environment": "a", "operation": "embedding"}
    yield days | {"aggregation": "", "group_by": "day,hour"}
    yield days | {"aggregation": "", "group_by": "job,service"}
    yield days | {"aggregation": "", "group_by": "user,model", "limit": "2"}
    yield {"start_date": days["start_date"], "end_date": days["start_date"]}


@given(st.lists(metrics(), max_size=12))
@settings(max_examples=6, derandomize=True)
def test_both_hosts_give_the_same_answers(hosts, found):
    start = date(2025, 7, 1) + timedelta(days=10 * next(_months))
    shifted = [replace(each, timestamp=each.timestamp - JULY + _midnight(start)) for each in found]
    hosts.put(shifted)
    for question in questions(start):
        hosts.same(**question)


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def test_pages_of_both_hosts_go_on_from_each_others_cursors(hosts):
    day = datetime(2024, 3, 1, 12, tzinfo=UTC)
    hosts.put([metric(timestamp=day, model=f"m-{n}", service="x") for n in range(5)])
    asked = {"start_date": "2024-03-01", "end_date": "2024-03-01", "aggregation": ""}
    asked |= {"group_by": "model,day", "limit": "2"}
    seen, cursor = [], None
    for host in (hosts.server, hosts.serverless, hosts.server):
        more = {"cursor": cursor} if cursor else {}
        _, body, _ = host(**asked, **more)
        assert hosts.same(**asked, **more) == body
        seen += [group["model"] for group in body["groups"]["results"]]
        cursor = body["groups"]["next_cursor"]
    assert (seen, cursor) == ([f"m-{n}" for n in range(5)], None)
    status, body, _ = hosts.server(**asked | {"group_by": "day,model"}, cursor="bm8")
    assert (status, body["code"]) == (400, "invalid_cursor")


def test_errors_unpriced_and_api_calls_are_counted_on_both(hosts):
    day = datetime(2024, 4, 1, 12, tzinfo=UTC)
    hosts.put(
        [
            metric(timestamp=day, model="nobody-prices-this", cost_usd=None, job_id="j"),
            metric(timestamp=day, model="x", cost_usd=Decimal("0.000000000000000001"), job_id="j"),
            metric(timestamp=day, cost_usd=None, status="error", api_calls=3, input_tokens=None,
                   output_tokens=None, latency=None, job_id="j"),
        ]
    )  # fmt: skip
    body = hosts.same(start_date="2024-04-01", end_date="2024-04-01", aggregation="job,model")
    summary = body["summary"]
    assert (summary["call_count"], summary["total_api_calls"]) == (3, 5)
    assert (summary["error_count"], summary["unpriced_count"]) == (1, 1)
    assert summary["total_cost_usd_exact"] == "0.000000000000000001"
    assert body["aggregations"]["by_model"]["nobody-prices-this"]["cost_usd"] is None
    assert summary["latency"] == {"count": 2, "p50": 0.251904, "p90": 0.251904} | {
        "p95": 0.251904,
        "p99": 0.251904,
    }


def test_refusals_have_the_same_codes(hosts):
    for wrong in (
        {"start_date": "garbage"},
        {"start_date": "2025-07-02", "end_date": "2025-07-01"},
        {"aggregation": "weather"},
        {"status": "maybe"},
        {"colour": "red"},
    ):
        status, mine, _ = hosts.server(**wrong)
        other, theirs, _ = hosts.serverless(**wrong)
        assert (status, other) == (400, 400)
        assert mine == {name: theirs[name] for name in ("type", "code", "detail", "attr")}


def test_the_original_path_is_of_the_keys_own_project(hosts):
    day = datetime(2024, 5, 1, 12, tzinfo=UTC)
    hosts.put([metric(timestamp=day, service="x")])
    asked = {"start_date": "2024-05-01", "end_date": "2024-05-01"}
    world, reader = hosts.project.world, hosts.project.reader
    answer = world.get("/ai_usage", reader, **asked)
    assert answer.json() == hosts.same(**asked)
    assert answer.json()["summary"]["call_count"] == 1
    stranger = world.foreign_project()
    assert world.get("/ai_usage", stranger.reader, **asked).json()["summary"]["call_count"] == 0
    headers = {"Authorization": f"Bearer {reader}", "If-None-Match": answer.headers["etag"]}
    again = world.http.get("/ai_usage", params=asked, headers=headers)
    assert (again.status_code, again.content) == (304, b"")


def test_an_answer_is_as_new_as_the_calls(hosts):
    """Answers are kept while nothing changes, and no longer."""
    day = datetime(2024, 6, 1, 12, tzinfo=UTC)
    asked = {"start_date": "2024-06-01", "end_date": "2024-06-01", "aggregation": "model"}
    first = metric(timestamp=day, model="x-1")
    for count, each in enumerate((first, metric(timestamp=day, model="x-2")), 1):
        hosts.put([each])
        for _ in range(2):
            assert hosts.same(**asked)["summary"]["call_count"] == count
    priced = json.loads(hosts._call(first)) | {"revision": 2, "cost_total": "7"}
    hosts.store.insert("calls", [priced])
    assert hosts.server(**asked)[1]["aggregations"]["by_model"]["x-1"]["cost_usd_exact"] == "7"


def test_a_call_that_two_sources_report_counts_once_on_the_server(hosts):
    day = datetime(2024, 7, 1, 12, tzinfo=UTC)
    asked = {"start_date": "2024-07-01", "end_date": "2024-07-01", "aggregation": "model"}
    rows = [
        json.loads(hosts._call(metric(timestamp=day, model=name)))
        | {"call_id": "chatcmpl-of-both", "source_rank": rank}
        for name, rank in (("of-the-proxy", 20), ("of-the-sdk", 10))
    ]
    hosts.store.insert("calls", rows)
    found = hosts.server(**asked)[1]
    assert found["summary"]["call_count"] == 1
    assert list(found["aggregations"]["by_model"]) == ["of-the-sdk"]


KNOWN = {"model": "gpt-4o-mini", "usage": {"prompt_tokens": 1000, "completion_tokens": 100}}
UNKNOWN = {"model": "nobody-prices-this", "usage": KNOWN["usage"]}
FAILED = {"model": "gpt-4o-mini", "error": "no"}
STATED = [
    ("a price is known: it counts", KNOWN | {"cost_usd": Decimal("0.5")}, "0.00021", 0),
    ("and beside a stated 0", KNOWN | {"cost_usd": Decimal(0)}, "0.00021", 0),
    ("and beside a reported one", KNOWN | {"reported_cost_usd": Decimal("0.5")}, "0.00021", 0),
    ("none is known: what is stated", UNKNOWN | {"cost_usd": Decimal("0.5")}, "0.5", 0),
    ("a stated 0 is a cost", UNKNOWN | {"cost_usd": Decimal(0)}, "0", 0),
    ("whole dollars", UNKNOWN | {"cost_usd": 2}, "2", 0),
    ("stated goes before reported", UNKNOWN | {"cost_usd": 2, "reported_cost_usd": 3}, "2", 0),
    ("a stated 0, too", UNKNOWN | {"cost_usd": 0, "reported_cost_usd": 3}, "0", 0),
    ("else what is reported", UNKNOWN | {"reported_cost_usd": Decimal("0.5")}, "0.5", 0),
    ("a reported 0 is none", UNKNOWN | {"reported_cost_usd": Decimal(0)}, None, 1),
    ("nothing is said", UNKNOWN, None, 1),
    ("a call that failed, with its cost", FAILED | {"cost_usd": Decimal("0.5")}, "0.5", 0),
]


def of_file(path, found, query):
    JsonlSink(path).store(found)
    usage = JsonlUsage(path, query.start)
    usage.refresh()
    return answer(query, usage.ledger.groups(query))


@pytest.mark.parametrize("case", range(len(STATED)), ids=[each[0] for each in STATED])
def test_one_rule_of_what_a_call_costs_on_the_server_in_a_file_and_in_a_table(
    hosts, tmp_path, case
):
    _, seen, cost, unpriced = STATED[case]
    day = datetime(2026, 1, 1, 12, tzinfo=UTC) + timedelta(days=case)
    call = {"service": "openai", "operation": "completion", "started_at": day, **seen}
    # The library prices what goes to a file or a table, and leaves to a server what goes there.
    priced = Assembler(NOTHING, CostCalculator()).metric(Observation(call, NOTHING, 0.0))
    plain = Assembler(NOTHING, None).metric(Observation(call, NOTHING, 0.0))
    hosts.put([priced], sent=[plain])
    asked = {"start_date": f"{day:%Y-%m-%d}", "end_date": f"{day:%Y-%m-%d}"}
    summary = hosts.same(**asked)["summary"]
    assert summary["total_cost_usd_exact"] == cost
    assert (summary["call_count"], summary["unpriced_count"]) == (1, unpriced)
    query = parse({name: [value] for name, value in asked.items()}, today=day.date())
    assert of_file(tmp_path / "usage.jsonl", [priced], query)["summary"] == summary
    # All that a library of several stores has, sent to a server, says the same.
    both = Assembler(NOTHING, CostCalculator()).metric(Observation(call, NOTHING, 0.0))
    assert _cost_of(hosts, both) == (None if cost is None else Decimal(cost))


@pytest.mark.parametrize(
    ("operation", "tokens", "cost"), [("completion", 0, None), ("embedding", 1000, "0.00002")]
)
def test_a_total_alone_counts_where_it_is_known_of_which_side_it_is(
    hosts, tmp_path, operation, tokens, cost
):
    day = datetime(2026, 3, 1, 12, tzinfo=UTC) + timedelta(days=tokens > 0)
    call = {"service": "openai", "model": "text-embedding-3-small", "operation": operation}
    call |= {"started_at": day, "total_tokens": 1000}
    priced = Assembler(NOTHING, CostCalculator()).metric(Observation(call, NOTHING, 0.0))
    plain = Assembler(NOTHING, None).metric(Observation(call, NOTHING, 0.0))
    assert priced.total_tokens == 1000
    hosts.put([priced], sent=[plain])
    asked = {"start_date": f"{day:%Y-%m-%d}", "end_date": f"{day:%Y-%m-%d}"}
    body = hosts.same(**asked, aggregation=ALL)
    hosts.same(**asked, aggregation="", group_by="operation,model")
    summary = body["summary"]
    assert (summary["input_tokens"], summary["output_tokens"]) == (tokens, 0)
    assert (summary["total_tokens"], summary["total_cost_usd_exact"]) == (tokens, cost)
    query = parse({name: [value] for name, value in asked.items()}, today=day.date())
    assert of_file(tmp_path / "usage.jsonl", [priced], query)["summary"] == summary


def test_a_stated_cost_counts_on_a_server_whose_book_lacks_the_librarys_price(hosts, tmp_path):
    own = tmp_path / "prices.toml"
    own.write_text(
        '[[override]]\nid = "own"\nprovider = "openai"\nmodel = "nobody-prices-this"\n'
        "effective_from = 2025-01-01\n"
        'per_million_tokens = { uncached_input = "1", text_output = "1" }'
    )
    moment = datetime(2026, 2, 1, tzinfo=UTC)
    seen = UNKNOWN | {"service": "openai", "operation": "completion", "started_at": moment}
    for stated in (0, 2):
        call = seen | {"cost_usd": stated, "reported_cost_usd": 3}
        both = Assembler(NOTHING, CostCalculator(own)).metric(Observation(call, NOTHING, 0.0))
        assert (both.cost_usd, both.stated_cost_usd) == (Decimal("0.0011"), stated)
        assert _cost_of(hosts, both) == stated


def _cost_of(hosts, each) -> Decimal | None:
    call = json.loads(hosts._call(each))
    found = call.get("cost_total")
    if found is None and (call["cost_stated"] or Decimal(call.get("reported_total_cost_usd") or 0)):
        found = call.get("reported_total_cost_usd")
    return None if found is None else Decimal(found)
