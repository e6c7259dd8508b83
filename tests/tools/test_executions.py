"""Executions: counted before they are sent, kept with what follows, each effect once."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import select

from nilometer.access.tables import Project
from nilometer.database.fence import EVERY_ROW
from nilometer.errors import InvalidInput, NotFound
from nilometer.incidents.tools.breaker import PROBE_SECONDS
from nilometer.incidents.tools.call import (
    Begun,
    Deferred,
    ErrorClass,
    Failed,
    Interrupted,
    Over,
    Succeeded,
    Unknown,
)
from nilometer.incidents.tools.resolving import limits
from nilometer.incidents.tools.tables import BreakerRow, BreakerState, ExecutionState, ToolRow
from nilometer.observability import metrics
from nilometer.workflows.tables import TaskRow
from nilometer.workflows.task import TaskState
from tests.database.both import somebody_waits
from tests.running import wait_until

FAILED = Failed("http_500", "The receiver answered 500.", ErrorClass.TRANSIENT, asked=True)


def counts():
    """What the metric says of HTTP tools that failed for now, and that succeeded."""
    outcomes = ("failed_for_now", "succeeded")
    return [metrics.TOOL_EXECUTIONS.labels("http", each)._value.get() for each in outcomes]


def test_an_attempt_is_counted_before_anything_is_sent(each_bench, receiver):
    bench = each_bench
    bench.http()
    call = bench.call(n=1)
    [begun] = bench.begin(call)
    assert isinstance(begun, Begun)
    kept = bench.kept(call)
    assert (kept.state, kept.attempts, kept.input) == (ExecutionState.RUNNING, 1, {"n": 1})
    assert receiver.received == []
    outcome = bench.record(begun.call, bench.executor.execute(begun.call))
    kept = bench.kept(call)
    assert (kept.state, kept.output) == (ExecutionState.SUCCEEDED, outcome.output)
    assert kept.finished_at == bench.now


def test_who_fails_three_times_and_then_succeeds_has_four_attempts_and_one_effect(bench, receiver):
    bench.http()
    receiver.answers(500, times=3)
    call = bench.call()
    counted = counts()
    outcomes = [bench.run(call) for _ in range(5)]
    assert [type(each) for each in outcomes] == [Failed] * 3 + [Succeeded] * 2
    assert [after - before for before, after in zip(counted, counts(), strict=True)] == [3, 1]
    assert len(receiver.received) == 4
    assert receiver.effects == {call.execution_id: 1}
    kept = bench.kept(call)
    assert (kept.attempts, kept.state) == (4, ExecutionState.SUCCEEDED)


def test_what_was_recorded_is_not_done_again(each_bench, receiver):
    bench = each_bench
    bench.http()
    call = bench.call()
    outcome = bench.run(call)
    [over] = bench.begin(call)
    assert isinstance(over, Over)
    assert over.outcome == outcome
    assert bench.record(over.call, FAILED) == outcome
    assert len(receiver.received) == 1
    assert bench.kept(call).state is ExecutionState.SUCCEEDED


@pytest.mark.parametrize("given", [float("inf"), 10**30, "\ud800", {1, 2}])
def test_what_nobody_could_read_again_is_a_failure_that_is_known(each_bench, given):
    """Left unrecorded it would be asked for again and again."""
    bench = each_bench
    bench.http()
    [begun] = bench.begin(bench.call())
    outcome = bench.record(begun.call, Succeeded({"status": 200, "body": given}))
    assert (outcome.code, outcome.is_transient) == ("output_unkeepable", False)
    kept = bench.kept(begun.call)
    assert (kept.state, kept.error_code) == (ExecutionState.FAILED, "output_unkeepable")
    [over] = bench.begin(begun.call)[:1]
    assert isinstance(over, Begun)  # replayed, it is a new attempt


def test_a_process_that_died_after_beginning_leaves_it_interrupted(bench, receiver):
    bench.http(honours_idempotency_key=True)
    call = bench.call()
    bench.begin(call)  # and nobody records
    [found] = bench.begin(call)
    assert isinstance(found, Interrupted)
    assert found.call.attempt == 1
    assert isinstance(bench.run(call), Succeeded)
    assert bench.kept(call).attempts == 1


def test_after_the_steps_time_what_became_of_it_is_asked_and_nothing_sent_again(bench, receiver):
    bench.http(honours_idempotency_key=True)
    bench.http("look", "/look", method="GET")
    bench.http("ask", reconcile={"url": f"{bench.url}/jobs/{{execution_id}}"})
    calls = {name: replace(bench.call(name), ends=bench.now) for name in ("call", "look", "ask")}
    for call in calls.values():
        bench.begin(replace(call, ends=None))  # and nobody records
    sent = bench.run(calls["call"])
    assert isinstance(sent, Unknown)
    assert (sent.code, sent.reconcilable) == ("outcome_unknown", False)
    looked = bench.run(calls["look"])
    assert isinstance(looked, Failed)
    assert (looked.code, looked.is_transient) == ("timed_out", False)
    assert receiver.received == []
    bench.run(calls["ask"])
    assert [each.path for each in receiver.received] == [f"/jobs/{calls['ask'].execution_id}"]

    assert isinstance(bench.run(replace(calls["call"], ends=None)), Succeeded)  # it was replayed


def test_who_was_asked_before_a_tool_was_changed_is_not_looked_for_at_its_new_address(
    bench, receiver
):
    bench.http(honours_idempotency_key=True)
    call = bench.call()
    bench.begin(call)  # and nobody records
    bench.tools.change(bench.project, "call", {"config": {"url": f"{bench.url}/elsewhere"}})
    for _ in range(2):  # replayed, it is no different
        [found] = bench.begin(call)
        assert isinstance(found, Over)
        assert isinstance(found.outcome, Unknown)
        assert (found.outcome.code, found.outcome.reconcilable) == ("tool_changed", False)
        bench.record(found.call, found.outcome)
        assert bench.kept(call).state is ExecutionState.UNKNOWN
    assert receiver.received == []
    assert breaker(bench) is None
    bench.history.decide(bench.project, call.execution_id, succeeded=False)
    assert isinstance(bench.run(call), Succeeded)  # a new attempt, at the new one
    assert [each.path for each in receiver.received] == ["/elsewhere"]


def test_who_was_asked_before_a_tool_was_removed_is_not_looked_for_where_another_of_its_name_is(
    each_bench, receiver
):
    bench = each_bench
    bench.http(honours_idempotency_key=True)
    calls = [bench.call(), bench.call()]
    bench.begin(calls[0])  # and nobody records
    bench.tools.change(bench.project, "call", {"description": "of a second version"})
    bench.begin(calls[1])
    bench.tools.remove(bench.project, "call")
    bench.http(path="/elsewhere", honours_idempotency_key=True)
    for changes in (1, 2):  # it has had as many as the first, and then more
        for outcome in map(bench.run, calls):
            assert isinstance(outcome, Unknown)
            assert (outcome.code, outcome.reconcilable) == ("tool_changed", False)
        bench.tools.change(bench.project, "call", {"description": f"changed {changes}"})
    assert receiver.received == []


def test_what_a_person_found_is_the_output_of_the_step(bench, receiver):
    bench.http(secrets={"token": "a-secret"}, headers={"Authorization": "{secrets.token}"})
    receiver.cuts()
    call = bench.call()
    assert isinstance(bench.run(call), Unknown)
    decide = bench.history.decide
    with pytest.raises(InvalidInput, match="only what succeeded"):
        decide(bench.project, call.execution_id, succeeded=False, output={"body": 1})
    told = {"status": 200, "body": {"id": 7, "by": "a-secret\0", "big": 10**30}}
    decide(bench.project, call.execution_id, succeeded=True, output=told)
    outcome = bench.run(call)
    assert isinstance(outcome, Succeeded)
    assert outcome.output["body"] == {"id": 7, "by": "[secret:token]\ufffd", "big": str(10**30)}


def test_of_what_is_under_way_nobody_decides_yet(bench, receiver):
    bench.http()
    call = bench.call()
    bench.begin(call)  # and nobody records
    with pytest.raises(InvalidInput, match="its worker died"):
        bench.history.decide(bench.project, call.execution_id, succeeded=True)


def test_a_person_says_what_became_of_an_unknown_one(each_bench, receiver):
    bench = each_bench
    bench.http()
    for succeeded in (True, False):
        receiver.cuts()
        call = bench.call()
        assert isinstance(bench.run(call), Unknown)
        decide = {"succeeded": succeeded, "actor": "key:ada", "now": bench.now}
        with bench.database.session(EVERY_ROW) as session:
            with pytest.raises(NotFound):
                bench.executions.decide(session, bench.other, call.execution_id, **decide)
            outcome = bench.executions.decide(session, bench.project, call.execution_id, **decide)
        assert isinstance(outcome, Succeeded if succeeded else Failed)
        kept = bench.kept(call)
        assert kept.decided_by == "key:ada"
        assert (kept.state is ExecutionState.SUCCEEDED) is succeeded
        with bench.database.session(EVERY_ROW) as session, pytest.raises(InvalidInput):
            bench.executions.decide(session, bench.project, call.execution_id, **decide)


@pytest.mark.parametrize(
    ("tool", "code"),
    [("nobody", "no_tool"), ("disabled", "tool_disabled"), ("new", "unknown_kind")],
)
def test_what_cannot_be_called_fails_for_good_and_is_seen(bench, receiver, tool, code):
    bench.http("disabled", enabled=False)
    bench.http("new")
    with bench.database.session(EVERY_ROW) as session:
        session.get_one(ToolRow, (bench.project, "new")).kind = "teleport"
    call = bench.call(tool)
    outcome = bench.run(call)
    assert (outcome.code, outcome.is_transient) == (code, False)
    kept = bench.kept(call)
    assert (kept.state, kept.error_code, kept.attempts) == (ExecutionState.FAILED, code, 1)
    assert bench.executor.execute(call) == outcome
    assert receiver.received == []


def test_a_project_has_its_own_tools_alone(bench, receiver):
    bench.http()
    call = bench.call(project=bench.other)
    assert bench.run(call).code == "no_tool"
    assert bench.executor.execute(replace(call, project_id=10**6)).code == "no_project"
    assert receiver.received == []


def test_many_calls_of_many_projects_begin_and_end_together(each_bench, receiver):
    bench = each_bench
    bench.http()
    bench.tools.add(bench.other, "call", "http", {"config": {"url": f"{bench.url}/other"}})
    calls = [bench.call(project=p, n=n) for n in range(5) for p in (bench.project, bench.other)]
    begun = bench.begin(*calls, bench.call("nobody"))
    assert [type(each) for each in begun] == [Begun] * 10 + [Over]
    done = [(each.call, bench.executor.execute(each.call)) for each in begun[:10]]
    with bench.database.concurrent(EVERY_ROW) as session:
        assert len(bench.executions.record(session, done, bench.now)) == 10
    assert {each.path for each in receiver.received} == {"/do", "/other"}
    for call in calls:
        assert bench.kept(call).input == call.input


def test_a_project_whose_rules_this_release_cannot_read_waits(bench):
    bench.http()
    with bench.database.session(EVERY_ROW) as session:
        session.get_one(Project, bench.project).redaction = {"patterns": ["of_a_newer_release"]}
    [found] = bench.begin(bench.call())
    assert isinstance(found, Deferred)
    assert found.code == "redaction_unavailable"


def test_limits_are_by_project_and_tool(bench):
    bench.http(max_concurrency=7)
    wanted = [(bench.project, "call"), (bench.project, "notify"), (bench.other, "call")]
    with bench.database.read(EVERY_ROW) as session:
        found = limits(session, wanted)
    assert [found[key][1] for key in wanted] == [7, 4, 4]
    assert len({(key[0], found[key][0]) for key in wanted}) == 3
    assert all(len(text) <= 100 for text, _ in found.values())  # as a task's key may be


# The breaker.


def breaker(bench, tool="call"):
    with bench.database.read(EVERY_ROW) as session:
        return session.get(BreakerRow, (bench.project, tool))


def opened_breaker(bench, receiver, **given):
    bench.http(breaker_failures=3, breaker_seconds=60, **given)
    receiver.answers(500, times=3)
    for _ in range(3):
        bench.run(bench.call())
    assert breaker(bench).state is BreakerState.OPEN
    assert len(receiver.received) == 3


def test_after_so_many_failures_in_a_row_nothing_is_sent_for_a_while(each_bench, receiver):
    bench = each_bench
    opened_breaker(bench, receiver)
    bench.later(seconds=20)
    call = bench.call()
    deferred = metrics.TOOL_EXECUTIONS.labels("http", "deferred")._value.get()
    [found] = bench.begin(call)
    assert metrics.TOOL_EXECUTIONS.labels("http", "deferred")._value.get() == deferred + 1
    assert isinstance(found, Deferred)
    assert (found.code, found.retry_after) == ("breaker_open", 40)
    with pytest.raises(NotFound):
        bench.kept(call)  # no attempt was counted
    assert len(receiver.received) == 3


def test_a_success_in_between_begins_the_count_anew_and_a_refusal_is_no_failure(bench, receiver):
    bench.http(breaker_failures=3)
    for statuses in ((500, 500), (400, 500, 500), (200, 500, 500), (404,) * 5):
        for status in statuses:
            receiver.answers(status)
            bench.run(bench.call())
        assert breaker(bench).state is BreakerState.CLOSED


def test_answers_that_are_lost_open_it_too(bench, receiver):
    bench.http(breaker_failures=2)
    for _ in range(2):
        receiver.cuts()
        bench.run(bench.call())
    assert breaker(bench).state is BreakerState.OPEN


def test_a_breaker_is_of_one_tool_of_one_project(bench, receiver):
    opened_breaker(bench, receiver)
    bench.http("another")
    bench.tools.add(bench.other, "call", "http", {"config": {"url": f"{bench.url}/"}})
    assert isinstance(bench.run(bench.call("another")), Succeeded)
    assert isinstance(bench.run(bench.call(project=bench.other)), Succeeded)


def test_when_its_time_is_over_one_call_goes_through_however_many_come(each_bench, receiver):
    bench = each_bench
    opened_breaker(bench, receiver)
    bench.later(seconds=60)
    calls = [bench.call() for _ in range(12)]
    barrier = threading.Barrier(4)

    def begin(mine):
        barrier.wait(10)
        return [bench.begin(call)[0] for call in mine]

    with ThreadPoolExecutor(4) as pool:
        found = [each for some in pool.map(begin, [calls[i::4] for i in range(4)]) for each in some]
    through = [each for each in found if isinstance(each, Begun)]
    assert len(through) == 1
    waits = {each.retry_after for each in found if isinstance(each, Deferred)}
    assert waits == {PROBE_SECONDS}
    assert breaker(bench).probe == through[0].call.execution_id

    # Its success closes the breaker, and then all go through.
    bench.record(through[0].call, bench.executor.execute(through[0].call))
    assert breaker(bench).state is BreakerState.CLOSED
    assert isinstance(bench.begin(bench.call())[0], Begun)


def test_what_is_put_off_while_the_probe_succeeds_begins_with_the_others(each_bench, receiver):
    """Whoever reads the breaker first, the closing finds the task that was put off."""
    bench = each_bench
    opened_breaker(bench, receiver)
    bench.later(seconds=60)
    [probe] = bench.begin(bench.call())
    with ThreadPoolExecutor(1) as thread:
        with bench.database.concurrent(EVERY_ROW) as session:
            [found] = bench.executions.begin(session, [bench.call()], bench.now)
            closing = thread.submit(bench.record, probe.call, Succeeded({}))
            wait_until(lambda: closing.done() or somebody_waits(bench.database))
            session.add(postponed(bench, found))
        assert isinstance(closing.result(90), Succeeded)
    with bench.database.read(EVERY_ROW) as session:
        assert session.scalars(select(TaskRow.due_at)).all() == [bench.now]


def postponed(bench, deferred):
    """Its task, as the runner leaves it."""
    return TaskRow(
        project_id=bench.project,
        lane="incident",
        sequence=1,
        queue="tool",
        kind="ToolExecutionRequested",
        payload={},
        state=TaskState.READY,
        due_at=bench.now + timedelta(seconds=deferred.retry_after),
        attempts=0,
        losses=0,
        limit_key="call",
        key_limit=4,
        error_code=deferred.code,
        created_at=bench.now,
    )


def test_a_probe_that_fails_opens_it_again(bench, receiver):
    opened_breaker(bench, receiver)
    bench.later(seconds=60)
    receiver.answers(503)
    bench.run(bench.call())
    assert breaker(bench).state is BreakerState.OPEN
    [found] = bench.begin(bench.call())
    assert found.retry_after == 60
    assert found.since == bench.now - timedelta(seconds=60)  # as long as it has not closed


def test_what_began_before_says_nothing_of_a_breaker_that_has_opened(bench, receiver):
    bench.http(breaker_failures=2)
    slow = bench.begin(bench.call())[0]
    for _ in range(2):
        receiver.answers(500)
        bench.run(bench.call())
    bench.record(slow.call, Succeeded({}))
    assert breaker(bench).state is BreakerState.OPEN


def test_a_probe_that_died_is_replaced(bench, receiver):
    opened_breaker(bench, receiver)
    bench.later(seconds=60)
    assert isinstance(bench.begin(bench.call())[0], Begun)
    bench.later(seconds=PROBE_SECONDS - 1)
    assert isinstance(bench.begin(bench.call())[0], Deferred)
    bench.later(seconds=1)
    assert isinstance(bench.begin(bench.call())[0], Begun)


def test_a_clock_that_was_far_ahead_does_not_keep_it_open(bench, receiver):
    bench.later(days=30)
    opened_breaker(bench, receiver)
    bench.now -= timedelta(days=30)
    assert isinstance(bench.begin(bench.call())[0], Begun)


def test_failures_are_counted_whoever_records_them_at_the_same_moment(each_bench):
    """Each is a row's change by one: none may be lost, and nobody waits for the other for ever."""
    bench = each_bench
    names = ["call", "other"]
    for name in names:
        bench.http(name, breaker_failures=100)

    def fail(turn):
        order = names if turn % 2 else names[::-1]
        done = [(each.call, FAILED) for each in bench.begin(*map(bench.call, order))]
        with bench.database.concurrent(EVERY_ROW) as session:
            bench.executions.record(session, done, bench.now)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(fail, range(20)))
    with bench.database.read(EVERY_ROW) as session:
        counts = dict(session.execute(select(BreakerRow.tool, BreakerRow.failures)).all())
    assert counts == {"call": 20, "other": 20}


def test_an_operator_closes_it(bench, receiver):
    opened_breaker(bench, receiver)
    assert bench.tools.get(bench.project, "call").breaker.state is BreakerState.OPEN
    bench.tools.close_breaker(bench.project, "call")
    assert isinstance(bench.run(bench.call()), Succeeded)
