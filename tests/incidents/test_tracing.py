"""Spans of the chain as a receiver of OTLP gets them: one trace, whatever fails; no content."""

import subprocess
import sys
import threading
import time
from dataclasses import dataclass

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from nilometer.alerts.acceptance import accepted
from nilometer.budgets.raising import Raised
from nilometer.database.fence import EVERY_ROW
from nilometer.errors import ConfigurationError
from nilometer.incidents.incident import NewException, Status
from nilometer.incidents.tools.definitions import Tools
from nilometer.incidents.tools.executor import Executor
from nilometer.incidents.tools.remote import Remote
from nilometer.notifications.reach import Reach
from nilometer.observability import tracing
from nilometer.observability.metrics import REGISTRY
from tests.running import wait_until
from tests.tools.receiver import answering, receiving

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{CALLER}-01"
REACH = Reach.parse("127.0.0.0/8")
SECRET = "what-was-sent-7f3a"
PACK = {
    "format": 1,
    "name": "orders",
    "exceptions": [{"type": "OrderFailed", "severity": "high"}],
    "playbooks": [
        {
            "name": "mend",
            "types": ["OrderFailed"],
            "steps": [{"name": "call", "tool": "mend", "params": {"order": SECRET}}],
        }
    ],
}


@dataclass(frozen=True)
class Told:
    """A span that arrived."""

    name: str
    trace: str
    id: str
    parent: str
    kind: int
    error: str | None
    attributes: dict[str, object]


@pytest.fixture
def collector(monkeypatch):
    """A receiver of OTLP, to which the environment leads."""
    with receiving() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        yield receiver


@pytest.fixture
def chain(bare):
    """The chain with real tools, one of which asks a server over HTTP."""
    with receiving() as receiver:
        bare.tools = Executor(bare.database, Remote(REACH), elsewhere=None)
        given = {"config": {"url": f"{receiver.url}/mend"}, "max_concurrency": 10}
        Tools(bare.database, REACH).add(bare.project_id, "mend", "http", given)
        bare.use(PACK)
        yield bare, receiver


def order(**more):
    return NewException("OrderFailed", "shop", payload={"order": SECRET}, **more)


def requests(collector):
    return [ExportTraceServiceRequest.FromString(each.body) for each in collector.received]


def spans(collector):
    """What arrived."""
    found = [
        span
        for request in requests(collector)
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    return [
        Told(
            each.name,
            each.trace_id.hex(),
            each.span_id.hex(),
            each.parent_span_id.hex(),
            each.kind,
            each.status.message if each.status.code == 2 else None,
            {a.key: a.value.string_value or a.value.int_value for a in each.attributes},
        )
        for each in found
    ]


def counted(outcome):
    return REGISTRY.get_sample_value("nilometer_spans_total", {"outcome": outcome}) or 0


def of(told, exception_id):
    return [each for each in told if each.attributes["nilometer.exception.id"] == exception_id]


@pytest.mark.parametrize("together", [False, True])
def test_one_trace_leads_from_the_caller_through_every_stage_to_the_receiver(
    chain, collector, together
):
    handling, receiver = chain
    orders = [order(), order()] if together else [order()]
    before = counted("sent")
    with tracing.exporting("otlp"):
        given = handling.accept(*orders, traceparent=PARENT)
        handling.run()
    told = spans(collector)
    assert counted("sent") - before == len(told)
    assert {each.trace for each in told} == {TRACE}
    assert {each.error for each in told} == {None}
    for each in given:
        assert handling.incident(each.exception_id).status is Status.RESOLVED
        mine = of(told, each.exception_id)
        known = {span.id: span.name for span in mine} | {CALLER: "the caller"}
        assert [(span.name, known[span.parent]) for span in mine] == ORDER
        # What the history says belongs together is what the spans say.
        for event in handling.events(each.exception_id):
            assert known[event.traceparent.split("-")[2]] == MADE_BY[event.kind.name]
        [execution] = executions(handling, each.exception_id)
        assert known[execution.traceparent.split("-")[2]] == "process tool"
    headers = sorted(each.headers["traceparent"] for each in receiver.received)
    sent = [f"00-{TRACE}-{span.id}-01" for span in told if span.name == "execute mend"]
    assert headers == sorted(sent)
    assert all(SECRET.encode() not in each.body for each in collector.received)


ORDER = [
    ("process intake", "the caller"),
    ("process triage", "process intake"),
    ("process policy", "process triage"),
    ("process playbook", "process policy"),
    ("execute mend", "process tool"),
    ("process tool", "process playbook"),
    ("process playbook", "process tool"),
    ("process feedback", "process playbook"),
]
MADE_BY = {
    "ExceptionIngested": "the caller",
    "ExceptionNormalized": "process intake",
    "TriageCompleted": "process triage",
    "PolicyEvaluated": "process policy",
    "PlaybookMatched": "process playbook",
    "StepExecutionRequested": "process playbook",
    "ToolExecutionRequested": "process playbook",
    "ToolExecutionCompleted": "process tool",
    "StepCompleted": "process playbook",
    "PlaybookCompleted": "process playbook",
    "ExceptionResolved": "process playbook",
    "FeedbackCaptured": "process feedback",
}


def executions(handling, exception_id):
    with handling.database.read(EVERY_ROW) as session:
        return handling.chain.tool._executions.of_incident(
            session, handling.project_id, exception_id
        )


def test_what_fails_says_so_by_its_code_in_a_span_of_each_attempt(chain, collector):
    handling, receiver = chain
    receiver.answers(503).answers(400)
    with tracing.exporting("otlp"):
        given = handling.one(order())
        handling.settle()
    told = spans(collector)
    for name in ("execute mend", "process tool"):
        assert [each.error for each in told if each.name == name] == ["http_503", "http_400"]
    assert {each.error for each in told if each.name not in ("execute mend", "process tool")} == {
        None
    }
    attempts = [
        each.attributes["nilometer.tool.attempt"] for each in told if "execute" in each.name
    ]
    assert attempts == [1, 2]
    assert handling.incident(given).status is Status.FAILED
    # Nobody's trace: it begins with what was done first.
    roots = [each.name for each in told if not each.parent]
    assert roots == ["process intake"]


def test_a_stage_that_raises_is_told_without_the_errors_text(chain, collector, monkeypatch):
    handling, _ = chain

    def fail(*_):
        raise ValueError(SECRET)

    with tracing.exporting("otlp"):
        handling.one(order())
        monkeypatch.setattr(handling.chain.stages[1], "do", fail)
        handling.settle()
    told = spans(collector)
    assert [each.error for each in told if "triage" in each.name] == ["ValueError"] * 3
    assert all(SECRET.encode() not in each.body for each in collector.received)


def test_a_collector_that_hangs_holds_up_neither_the_chain_nor_its_end(
    chain, collector, monkeypatch
):
    handling, _ = chain
    collector.always = lambda handler: collector.gate.wait(60) and None
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "1")
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "8")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4")
    monkeypatch.setattr(tracing, "STOP_SECONDS", 0.2)
    with tracing.exporting("otlp"):
        given = handling.accept(order())
        handling.run()
        wait_until(lambda: collector.received)
        given += handling.accept(*[order()] * 10)
        handling.run()
        statuses = {handling.incident(each.exception_id).status for each in given}
        assert statuses == {Status.RESOLVED}
        stopped = time.monotonic()
    assert time.monotonic() - stopped < 8  # the exporter itself would wait ten seconds
    assert not tracing.on()
    collector.always = None
    collector.gate.set()
    ending = [each for each in threading.enumerate() if each.name == "tracing-stop"]
    wait_until(lambda: not any(each.is_alive() for each in ending))


def test_a_collector_that_refuses_is_counted(chain, collector):
    handling, _ = chain
    collector.always = answering(400)
    before = counted("failed")
    with tracing.exporting("otlp"):
        handling.one(order())
        handling.run()
    assert counted("failed") == before + 8


def test_what_the_caller_does_not_sample_is_not_told_but_goes_on(chain, collector):
    handling, receiver = chain
    with tracing.exporting("otlp"):
        handling.one(order(), traceparent=f"00-{TRACE}-{CALLER}-00")
        handling.run()
    assert not collector.received
    [sent] = receiver.received
    assert sent.headers["traceparent"].startswith(f"00-{TRACE}-")
    assert sent.headers["traceparent"].endswith("-00")


@pytest.mark.parametrize("how", ["off", "disabled"])
def test_without_tracing_the_callers_context_goes_along_as_it_came(
    chain, collector, monkeypatch, how
):
    handling, receiver = chain
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true" if how == "disabled" else "false")
    with tracing.exporting("off" if how == "off" else "otlp"):
        given = handling.one(order(), traceparent=PARENT)
        handling.run()
    assert {each.traceparent for each in handling.events(given)} == {PARENT}
    assert [each.headers["traceparent"] for each in receiver.received] == [PARENT]
    assert not collector.received


def test_what_a_rule_raises_begins_a_trace(bare, collector):
    with tracing.exporting("otlp"), bare.database.session(EVERY_ROW) as session:
        raised = Raised(
            exception_type="RunawaySpend",
            severity="high",
            occurred_at=bare.now,
            key="k",
            actor="budget",
            payload={},
        )
        given = accepted(session, bare.project_id, raised)
    [told] = spans(collector)
    assert (told.name, told.parent) == ("raise exception", "")
    [event] = bare.events(given)
    assert event.traceparent.startswith(f"00-{told.trace}-{told.id}-0")


def test_the_operators_names_are_kept(chain, collector, monkeypatch):
    handling, _ = chain
    monkeypatch.setenv("OTEL_SERVICE_NAME", "incidents")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-team=river")
    with tracing.exporting("otlp"):
        handling.one(order())
        handling.run()
    assert collector.received[0].path == "/v1/traces"
    assert collector.received[0].headers["x-team"] == "river"
    [resource] = {
        attribute.value.string_value
        for request in requests(collector)
        for each in request.resource_spans
        for attribute in each.resource.attributes
        if attribute.key == "service.name"
    }
    assert resource == "incidents"


def test_without_opentelemetry_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(ConfigurationError, match=r"nilometer\[otel\]"), tracing.exporting("otlp"):
        pass
    assert not tracing.on()


def test_off_nothing_of_opentelemetry_is_loaded():
    code = (
        "import sys, nilometer.incidents.runtime\n"
        "from nilometer.observability import tracing\n"
        "with tracing.exporting('off'):\n"
        "    tracing.started('a', None).end()\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "[]", done.stderr
