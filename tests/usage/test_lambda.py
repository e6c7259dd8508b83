"""The function behind API Gateway: who is let in, what is refused, both forms of events."""

import hashlib
import json
from datetime import timedelta

import pytest

from nilometer.domain import clock
from nilometer.usage import lambda_handler
from tests.usage.metrics import metric

KEY = "k-123"
ENVIRONMENT = {
    lambda_handler.TABLE: "t",
    lambda_handler.KEY_HASHES: f"{'0' * 64}, {hashlib.sha256(KEY.encode()).hexdigest()}",
}


class Stored:
    """Stands where the reader does: what it was asked, and rows by the pure rules."""

    def __init__(self):
        self.asked = []

    def groups(self, query):
        from nilometer.usage.fold import Row, fold
        from nilometer.usage.groups import dimensions_of, latencies_of, values_of

        self.asked.append(query)
        each = metric(timestamp=clock.now() - timedelta(days=1), job_id="nightly")
        return fold(query, [Row(dimensions_of(each), values_of(each), latencies_of(each))])


@pytest.fixture
def stored(monkeypatch):
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    stored = Stored()
    monkeypatch.setattr(lambda_handler, "_readers", {"t": stored})
    return stored


def event(parameters=None, key=KEY, **more):
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    return {"httpMethod": "GET", "headers": headers, "queryStringParameters": parameters} | more


def ask(parameters=None, **more):
    found = lambda_handler.handler(event(parameters, **more), None)
    return found["statusCode"], json.loads(found["body"]) if found["body"] else None, found


def test_the_default_answer_has_the_original_members(stored):
    status, body, found = ask()
    assert status == 200
    assert found["headers"]["Content-Type"] == "application/json"
    assert found["headers"]["Access-Control-Allow-Origin"] == "*"
    assert set(body["aggregations"]) == {"by_day"}
    assert body["summary"]["total_cost_usd"] == 0.0
    assert body["summary"]["average_cost_per_call"] == 0.000045
    assert body["summary"]["total_cost_usd_exact"] == "0.000045"
    (day,) = body["aggregations"]["by_day"].values()
    assert (day["cost_usd"], day["tokens"], day["api_calls"]) == (0.000045, 150, 1)
    assert day["services"] == ["openai"]
    assert body["query"]["service"] is None
    assert body["query"]["aggregation"] == ["day"]


@pytest.mark.parametrize(
    "form",
    [
        {"queryStringParameters": {"job": "nightly", "aggregation": "job, service"}},
        {"multiValueQueryStringParameters": {"job": ["nightly"], "aggregation": ["job,service"]}},
        {
            "httpMethod": None,
            "rawQueryString": "job=nightly&aggregation=job%2C+service",
            "requestContext": {"http": {"method": "GET"}},
        },
    ],
)
def test_both_forms_of_events_are_understood(stored, form):
    status, body, _ = ask(**form)
    assert (status, list(body["aggregations"])) == (200, ["by_job", "by_service"])
    assert stored.asked[-1].filters == {"job": "nightly"}


@pytest.mark.parametrize("key", [None, "", "wrong", "é", f"{KEY} "[:-2]])
def test_nobody_is_answered_without_a_key(stored, key):
    status, body, found = ask(key=key)
    assert (status, body["code"]) == (401, "not_authenticated")
    assert found["headers"]["WWW-Authenticate"] == "Bearer"
    assert not stored.asked


def test_without_any_configured_key_nobody_is_answered(stored, monkeypatch):
    monkeypatch.delenv(lambda_handler.KEY_HASHES)
    assert ask()[0] == 401
    assert ask(key="")[0] == 401


def test_the_gateway_may_authenticate(stored, monkeypatch):
    monkeypatch.setenv(lambda_handler.AUTH, "gateway")
    assert ask()[0] == 401
    assert ask(key=None, requestContext={"authorizer": {"jwt": {}}})[0] == 200
    assert (
        ask(key=None, requestContext={"identity": {"userArn": "arn:aws:iam::1:user/a"}})[0] == 200
    )
    assert ask(key=None, requestContext={"identity": {"sourceIp": "192.0.2.1"}})[0] == 401


@pytest.mark.parametrize(
    ("parameters", "code", "attr"),
    [
        ({"start_date": "garbage"}, "invalid_date", "start_date"),
        ({"end_date": "2025-02-30"}, "invalid_date", "end_date"),
        ({"start_date": "20250701"}, "invalid_date", "start_date"),
        ({"start_date": "2025-07-02", "end_date": "2025-07-01"}, "reversed_range", "start_date"),
        ({"start_date": "2024-07-01", "end_date": "2025-07-02"}, "range_too_long", "start_date"),
        ({"aggregation": "day,weather"}, "unknown_aggregation", "aggregation"),
        ({"group_by": "weather"}, "invalid_group_by", "group_by"),
        ({"group_by": "day,hour,user,job,model"}, "invalid_group_by", "group_by"),
        ({"status": "maybe"}, "invalid_status", "status"),
        ({"service": " "}, "invalid_filter", "service"),
        ({"job": "x" * 1025}, "invalid_filter", "job"),
        ({"limit": "0"}, "invalid_limit", "limit"),
        ({"limit": "1e3"}, "invalid_limit", "limit"),
        ({"cursor": "e30"}, "invalid_cursor", "cursor"),
        ({"cursor": "é"}, "invalid_cursor", "cursor"),
        ({"sevice": "openai"}, "unknown_parameter", "sevice"),
    ],
)
def test_a_bad_question_is_refused_with_a_code(stored, parameters, code, attr):
    status, body, _ = ask(parameters)
    assert (status, body["statusCode"], body["code"], body["attr"]) == (400, 400, code, attr)
    assert body["error"] == body["detail"]
    assert not stored.asked


def test_a_repeated_parameter_is_refused(stored):
    status, body, _ = ask(multiValueQueryStringParameters={"job": ["a", "b"]})
    assert (status, body["code"]) == (400, "repeated_parameter")


def test_an_answer_that_the_client_has_is_not_sent_again(stored):
    _, _, found = ask()
    etag = found["headers"]["ETag"]
    headers = {"authorization": f"Bearer {KEY}", "If-None-Match": f'"x", W/{etag}'}
    again = lambda_handler.handler(event() | {"headers": headers})
    assert (again["statusCode"], again["body"], again["headers"]["ETag"]) == (304, "", etag)
    assert ask({"aggregation": ""})[2]["headers"]["ETag"] != etag


def test_an_internal_error_says_nothing_of_itself(stored, monkeypatch, caplog):
    monkeypatch.setattr(stored, "groups", lambda query: 1 / 0)
    status, body, _ = ask()
    assert (status, body["code"]) == (500, "error")
    assert "division" not in json.dumps(body)
    assert "ZeroDivisionError" in caplog.text


def test_methods(stored):
    assert ask(httpMethod="OPTIONS", key=None)[0] == 204
    assert ask(httpMethod="POST")[0] == 405


def test_pages_go_on_where_the_last_one_ended(stored):
    wanted = {"aggregation": "", "group_by": "service,hour"}
    _, first, _ = ask(wanted | {"limit": "1"})
    assert first["groups"]["next_cursor"] is None
    [group] = first["groups"]["results"]
    assert group["service"] == "openai"
    assert "latency" not in group
