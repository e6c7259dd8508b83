"""HTTP tools and webhooks: what is sent, and what is made of every way in which it can end."""

import json
import socket
import time

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nilometer.errors import InvalidInput
from nilometer.incidents.tools import remote_config
from nilometer.incidents.tools.call import ErrorClass, Failed, Succeeded, Unknown
from nilometer.incidents.tools.kinds import ToolKind
from nilometer.incidents.tools.remote import Remote
from nilometer.notifications import signature
from nilometer.notifications.exchange import Answer
from nilometer.notifications.reach import Reach
from tests.tools.conftest import LOOPBACK

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_request_is_what_the_tool_says_and_the_step_gives(bench, receiver):
    bench.http(
        path="/v1/jobs/{job}/stop?why={why}&by={incident_id}",
        method="PUT",
        headers={"Authorization": "Bearer {secrets.token}"},
        secrets={"token": "t-0123456789"},
    )
    call = bench.call(job="a/b c", why="50 % & more", n=3)
    [begun] = bench.begin(call)
    outcome = bench.executor.execute(begun.call)
    assert outcome == Succeeded({"status": 200, "body": {"ok": True}})
    [sent] = receiver.received
    assert sent.method == "PUT"
    assert sent.path == (f"/v1/jobs/a%2Fb%20c/stop?why=50%20%25%20%26%20more&by={call.incident_id}")
    assert sent.headers["authorization"] == "Bearer t-0123456789"
    assert sent.headers["content-type"] == "application/json"
    assert sent.key == call.execution_id
    assert sent.json == {"job": "a/b c", "why": "50 % & more", "n": 3}


def test_a_webhook_is_signed_and_the_same_bytes_at_every_attempt(bench, receiver):
    made = bench.define(
        "webhook", "hook", url=f"{bench.url}/hook", event_type="page.on_call",
        honours_idempotency_key=True,
    )  # fmt: skip
    call = bench.call("hook", team="ops")
    receiver.answers(500)
    assert bench.run(call).is_transient
    bench.later(seconds=5)
    assert isinstance(bench.run(call), Succeeded)
    first, second = receiver.received
    assert first.body == second.body
    for sent in (first, second):
        signature.verify(made.signing_secret, sent.headers, sent.body)
        assert sent.headers["webhook-id"] == sent.key == call.execution_id
    told = first.json
    assert told["type"] == "page.on_call"
    assert told["data"] == {
        "project_id": bench.project,
        "incident_id": call.incident_id,
        "execution_id": call.execution_id,
        "tool": "hook",
        "input": {"team": "ops"},
    }


def test_the_trace_context_goes_along(bench, receiver):
    bench.http()
    call = bench.call()
    bench.run(type(call)(**{s: getattr(call, s) for s in call.__slots__} | {"traceparent": TRACE}))
    assert receiver.received[0].headers["traceparent"] == TRACE


@pytest.mark.parametrize(
    ("status", "error_class"),
    [
        *((status, "transient") for status in (408, 425, 429, 500, 501, 503, 599)),
        *((status, "permanent") for status in (301, 302, 307, 400, 401, 403, 404, 409, 410, 422)),
    ],
)
def test_what_an_answer_says_of_the_next_attempt(bench, receiver, status, error_class):
    bench.http()
    receiver.answers(status, b"a secret of theirs", Location=f"{bench.url}/elsewhere")
    outcome = bench.run(bench.call())
    assert (outcome.code, outcome.error_class) == (f"http_{status}", ErrorClass(error_class))
    assert "secret" not in outcome.detail
    assert len(receiver.received) == 1  # no redirect was followed


def test_the_receiver_says_when_to_come_again(bench, receiver):
    bench.http()
    receiver.answers(503, Retry_After="7")
    assert bench.run(bench.call()).retry_after == 7


def test_a_time_to_come_again_that_is_none_leaves_what_was_answered_known(bench, receiver):
    bench.http()
    receiver.answers(503, Retry_After="Fri, 01 Jan 99999999999999999999 00:00:00 GMT")
    outcome = bench.run(bench.call())
    assert (outcome.code, outcome.error_class) == ("http_503", ErrorClass.TRANSIENT)
    assert outcome.retry_after is None


def test_a_redirect_to_a_forbidden_address_goes_nowhere(bench, receiver):
    bench.http()
    receiver.answers(302, Location="http://169.254.169.254/latest/meta-data/")
    outcome = bench.run(bench.call())
    assert outcome.code == "http_302"
    assert "no redirect is followed" in outcome.detail


@pytest.mark.parametrize("lost", ["hangs", "cuts", "cuts_within_the_answer", "drips"])
def test_an_answer_that_is_lost_leaves_the_outcome_unknown(bench, receiver, lost):
    bench.http(**({"timeout_seconds": 4} if lost in ("hangs", "drips") else {}))
    receiver.gate.clear()
    getattr(receiver, lost)()
    started = time.monotonic()
    outcome = bench.run(bench.call())
    assert time.monotonic() - started < 40
    assert isinstance(outcome, Unknown)
    assert outcome.code == ("timeout" if lost in ("hangs", "drips") else "connection_lost")
    assert not outcome.reconcilable


@pytest.mark.parametrize("status", [502, 504])
def test_a_gateway_that_does_not_know_leaves_the_outcome_unknown(bench, receiver, status):
    bench.http()
    receiver.answers(status)
    assert isinstance(bench.run(bench.call()), Unknown)


@pytest.mark.parametrize("lost", ["cuts", "hangs"])
def test_a_request_that_changes_nothing_is_simply_made_again(bench, receiver, lost):
    bench.http(method="GET", timeout_seconds=4)
    receiver.gate.clear()
    getattr(receiver, lost)()
    call = bench.call()
    assert bench.run(call).error_class is ErrorClass.TRANSIENT
    assert isinstance(bench.run(call), Succeeded)


def test_nobody_there_is_a_failure_for_now_because_nothing_was_sent(bench):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    bench.define("http", "call", url=f"http://127.0.0.1:{port}/")
    outcome = bench.run(bench.call())
    assert (outcome.code, outcome.error_class) == ("unreachable", ErrorClass.TRANSIENT)


# What becomes of an unknown outcome.


def unknown(bench, receiver, **given):
    """A call that was done, and whose answer nobody has."""
    bench.http(**given)
    receiver.cuts()
    call = bench.call(job="7")
    outcome = bench.run(call)
    assert isinstance(outcome, Unknown)
    assert receiver.effects == {call.execution_id: 1}
    return call, outcome


def test_without_a_way_to_find_out_nothing_is_sent_again(bench, receiver):
    call, outcome = unknown(bench, receiver)
    assert not outcome.reconcilable
    again = bench.run(call)
    assert isinstance(again, Unknown)
    assert not again.reconcilable
    assert len(receiver.received) == 1
    assert bench.kept(call).attempts == 1


def test_a_webhook_is_sent_again_under_its_id_unless_its_definition_says_otherwise():
    config = {"url": "https://example.com/"}
    assert remote_config.read(ToolKind.WEBHOOK, config).reconcilable
    assert not remote_config.read(ToolKind.HTTP, config).reconcilable
    stated = {**config, "honours_idempotency_key": False}
    assert not remote_config.read(ToolKind.WEBHOOK, stated).reconcilable


def test_a_receiver_that_honours_the_key_is_asked_again_under_it(bench, receiver):
    receiver.honours_keys = True
    call, outcome = unknown(bench, receiver, honours_idempotency_key=True)
    assert outcome.reconcilable
    receiver.answers(503)
    again = bench.run(call)
    assert isinstance(again, Unknown), "a 503 says nothing of the request before"
    assert again.reconcilable
    assert isinstance(bench.run(call), Succeeded)
    assert receiver.keys == [call.execution_id] * 3
    assert receiver.effects == {call.execution_id: 1}


@pytest.mark.parametrize("status", [401, 403])
def test_who_is_not_let_in_any_more_does_not_know_either(bench, receiver, status):
    call, _ = unknown(bench, receiver, honours_idempotency_key=True)
    receiver.answers(status)
    outcome = bench.run(call)
    assert isinstance(outcome, Unknown)
    assert not outcome.reconcilable


def test_the_tools_own_question_tells_that_it_was_done(bench, receiver):
    reconcile = {"url": f"{bench.url}/jobs/{{job}}?key={{execution_id}}"}
    call, outcome = unknown(bench, receiver, reconcile=reconcile)
    assert outcome.reconcilable
    receiver.answers(200, {"state": "stopped"})
    assert bench.run(call) == Succeeded({"status": 200, "body": {"state": "stopped"}})
    asked = receiver.received[1]
    assert (asked.method, asked.path) == ("GET", f"/jobs/7?key={call.execution_id}")
    assert receiver.effects == {call.execution_id: 1}


def test_the_tools_own_question_tells_that_it_was_not_done_and_then_it_is(bench, receiver):
    bench.http(reconcile={"url": f"{bench.url}/jobs/{{execution_id}}"})
    call = bench.call()
    receiver.answers(504).answers(404)
    assert isinstance(bench.run(call), Unknown)
    outcome = bench.run(call)
    assert (outcome.code, outcome.error_class) == ("not_done", ErrorClass.TRANSIENT)
    assert isinstance(bench.run(call), Succeeded)
    assert [each.method for each in receiver.received] == ["POST", "GET", "POST"]
    assert receiver.effects == {call.execution_id: 1}


@pytest.mark.parametrize(("status", "again"), [(500, True), (504, True), (429, True), (401, False)])
def test_a_question_that_is_not_answered_tells_nothing(bench, receiver, status, again):
    reconcile = {"url": f"{bench.url}/jobs/{{execution_id}}"}
    call, _ = unknown(bench, receiver, reconcile=reconcile)
    receiver.answers(status)
    outcome = bench.run(call)
    assert isinstance(outcome, Unknown)
    assert outcome.reconcilable is again
    assert len(receiver.received) == 2


# What is let in.


def test_an_answer_is_held_against_the_tools_schema(bench, receiver):
    schema = {
        "type": "object",
        "properties": {"state": {"enum": ["stopped"]}},
        "required": ["state"],
    }
    bench.http(output_schema=schema)
    receiver.answers(200, {"state": "stopped"}).answers(200, {"state": "a secret of theirs"})
    receiver.answers(200, b"not json").answers(204)
    assert isinstance(bench.run(bench.call()), Succeeded)
    for _ in range(3):
        outcome = bench.run(bench.call())
        assert (outcome.code, outcome.error_class) == ("output_invalid", ErrorClass.PERMANENT)
        assert "secret" not in outcome.detail


def test_an_answer_is_bounded(bench, receiver):
    bench.http(max_response_bytes=1000)
    receiver.answers(200, b"1" * 1000).answers(200, b"1" * 1001)
    assert isinstance(bench.run(bench.call()), Succeeded)
    outcome = bench.run(bench.call())
    assert (outcome.code, outcome.error_class) == ("answer_too_large", ErrorClass.PERMANENT)


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        (b"", None),
        (b"plain\0text", "plain\ufffdtext"),
        (b"\xff", "\ufffd"),
        (b"[" * 200, "[" * 200),
        (b"18446744073709551615", 2**64 - 1),
        (b'{"a": [18446744073709551616]}', {"a": ["18446744073709551616"]}),
        (b"[1e999]", "[1e999]"),
        (b'{"a\\u0000": "\\u0000b"}', {"a\ufffd": "\ufffdb"}),
    ],
)
def test_whatever_comes_back_can_be_kept(bench, receiver, body, kept):
    bench.http()
    receiver.answers(200, body)
    call = bench.call()
    assert bench.run(call) == Succeeded({"status": 200, "body": kept})
    assert bench.kept(call).output == {"status": 200, "body": kept}


def test_of_any_answer_that_is_json_what_is_kept_is_json_for_every_reader(bench):
    bench.http(output_schema={"not": {"type": "boolean"}})
    [begun] = bench.begin(bench.call())
    texts = st.text(st.characters(exclude_categories=["Cs"]))
    odd = st.integers() | st.integers(2**63, 2**70) | st.floats(allow_nan=False) | texts
    values = st.recursive(
        st.none() | odd, lambda each: st.lists(each) | st.dictionaries(texts, each), max_leaves=8
    )

    @given(values)
    def answered(value):
        body = json.dumps(value).replace("Infinity", "1e999").encode()
        remote = Remote(LOOPBACK, send=lambda *_, **__: Answer(200, {}, body, whole=True))
        outcome = remote.perform(begun.call, begun.call.resolved)
        assert isinstance(outcome, Succeeded)
        assert orjson.loads(orjson.dumps(outcome.output)) == outcome.output
        assert "\\u0000" not in orjson.dumps(outcome.output).decode().replace("\\\\", "")

    answered()


def test_a_number_is_held_against_the_schema_as_it_came(bench, receiver):
    bench.http(output_schema={"type": "integer"})
    receiver.answers(200, str(10**30).encode())
    assert bench.run(bench.call()) == Succeeded({"status": 200, "body": str(10**30)})


def test_an_input_is_held_against_the_tools_schema_before_anything_is_sent(bench, receiver):
    bench.http(input_schema={"type": "object", "required": ["job"]})
    outcome = bench.run(bench.call(other="a secret"))
    assert (outcome.code, outcome.error_class) == ("input_invalid", ErrorClass.PERMANENT)
    assert "/required" in outcome.detail
    assert receiver.received == []


@pytest.mark.parametrize("job", ["..", ".", "", None, ["a"], {"a": 1}, "\ud800"])
def test_an_input_leads_nowhere_else(bench, receiver, job):
    bench.http(path="/jobs/{job}/stop")
    outcome = bench.run(bench.call(job=job))
    assert (outcome.code, outcome.error_class) == ("input_invalid", ErrorClass.PERMANENT)
    assert receiver.received == []


@pytest.mark.parametrize("job", ["../../admin", "%2e%2e", "a?b=c", "a#b", "//evil.example"])
def test_what_would_lead_elsewhere_is_a_name_like_any_other(bench, receiver, job):
    bench.http(path="/jobs/{job}/stop")
    bench.run(bench.call(job=job))
    [sent] = receiver.received
    start, _, end = sent.path.partition("/jobs/")
    assert (start, end.count("/")) == ("", 1)
    assert end.endswith("/stop")


# Where it goes to.


def leading_to(*answers):
    left = list(answers)

    def look_up(host, port, *_, **__):
        address = left.pop(0) if left else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    return look_up


@pytest.mark.parametrize("address", ["169.254.169.254", "10.0.0.1", "0.0.0.0"])
def test_a_name_that_leads_inside_is_refused_for_good(bench, receiver, monkeypatch, address):
    port = bench.url.rpartition(":")[2]
    bench.define("http", "call", url=f"https://tool.example:{port}/")
    monkeypatch.setattr(socket, "getaddrinfo", leading_to(address))
    outcome = bench.run(bench.call())
    assert (outcome.code, outcome.error_class) == ("address_refused", ErrorClass.PERMANENT)
    assert address not in outcome.detail


def test_the_address_that_was_judged_is_the_one_that_is_used(bench, receiver, monkeypatch):
    """A rebinding name leads elsewhere at the second lookup: there is none."""
    port = bench.url.rpartition(":")[2]
    bench.define("http", "call", url=f"http://tool.example:{port}/")
    monkeypatch.setattr(socket, "getaddrinfo", leading_to("127.0.0.1", "127.9.9.9"))
    assert isinstance(bench.run(bench.call()), Succeeded)
    assert receiver.received[0].headers["host"] == f"tool.example:{port}"


def test_loopback_is_closed_unless_the_operator_named_it(bench, receiver):
    bench.http()
    [begun] = bench.begin(bench.call())
    outcome = Remote(Reach()).perform(begun.call, begun.call.resolved)
    assert isinstance(outcome, Failed)
    assert outcome.code == "address_refused"
    assert receiver.received == []


# What a dry run tells.


def test_a_dry_run_tells_what_would_be_sent_and_sends_nothing(bench, receiver):
    bench.http(
        path="/{secrets.path}/{job}",
        headers={"X-Key": "k {secrets.token}"},
        secrets={"token": "t-0123456789", "path": "T0/B0 secret"},
        signed=True,
    )
    call = bench.call(job="7")
    outcome = bench.executor.execute(
        type(call)(**{s: getattr(call, s) for s in call.__slots__} | {"dry_run": True})
    )
    would = outcome.output["would"]
    assert would["url"] == f"{bench.url}/[secret:path]/7"
    assert would["headers"]["X-Key"] == "k [secret:token]"
    assert would["headers"]["Idempotency-Key"] == call.execution_id
    assert would["body"] == {"job": "7"}
    assert "0123456789" not in json.dumps(outcome.output)
    assert receiver.received == []


@pytest.mark.parametrize(
    "url",
    [
        "https://{host}/",
        "{url}",
        "ftp://h.example/",
        "https://h.example/../x",
        "https://h.example/{",
    ],
)
def test_where_a_tool_goes_to_is_fixed_when_it_is_defined(bench, url):
    with pytest.raises(InvalidInput):
        bench.define("http", "call", url=url)


def test_the_question_goes_to_the_same_host(bench):
    with pytest.raises(InvalidInput, match="same host"):
        bench.http(reconcile={"url": "https://elsewhere.example/{execution_id}"})
