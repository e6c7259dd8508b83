"""What asked nobody tells a breaker nothing: neither that somebody is there, nor that he is not."""

import pytest
from sqlalchemy import select

from nilometer.database.fence import EVERY_ROW
from nilometer.incidents.tools.call import Begun, Deferred
from nilometer.incidents.tools.executor import Executor
from nilometer.incidents.tools.remote import Remote
from nilometer.incidents.tools.tables import BreakerState, ToolRow
from nilometer.notifications.reach import PUBLIC
from nilometer.workflows.tables import TaskRow
from nilometer.workflows.task import TaskState

SCHEMA = {"properties": {"job": {"type": "string"}}}


@pytest.fixture
def down(bench, receiver):
    """A tool whose receiver fails, and whose breaker opens after two failures."""
    receiver.answers(500, times=6)
    bench.http(path="/{job}", input_schema=SCHEMA, breaker_failures=2, breaker_seconds=60)
    return bench


def breaks_the_schema(bench):
    return bench.run(bench.call(job=1))


def leads_elsewhere(bench):
    return bench.run(bench.call(job=".."))


def goes_where_it_may_not(bench):
    usual = bench.executor
    bench.executor = Executor(bench.database, Remote(PUBLIC), bench.elsewhere)
    outcome = bench.run(bench.call(job="a"))
    bench.executor = usual
    return outcome


def is_of_a_newer_release(bench):
    before = configure(bench, {"a": "new member"})
    outcome = bench.run(bench.call(job="a"))
    configure(bench, before)
    return outcome


def was_interrupted_and_is_of_a_newer_release(bench):
    call = bench.call(job="a")
    bench.begin(call)  # and nobody records
    before = configure(bench, {"a": "new member"})
    outcome = bench.run(call)
    configure(bench, before)
    return outcome


def was_interrupted_and_cannot_be_found_out(bench):
    call = bench.call(job="a")
    bench.begin(call)  # and nobody records
    return bench.run(call)


def configure(bench, config):
    with bench.database.session(EVERY_ROW) as session:
        row = session.get_one(ToolRow, (bench.project, "call"))
        before, row.config = row.config, config
        return before


def is_disabled(bench):
    bench.tools.change(bench.project, "call", {"enabled": False})
    [over] = bench.begin(bench.call(job="a"))
    bench.tools.change(bench.project, "call", {"enabled": True})
    return bench.record(over.call, over.outcome)


ATTEMPTED = [
    (breaks_the_schema, "input_invalid"),
    (leads_elsewhere, "input_invalid"),
    (goes_where_it_may_not, "address_refused"),
    (is_of_a_newer_release, "config_unreadable"),
    (was_interrupted_and_is_of_a_newer_release, "config_unreadable"),
    (was_interrupted_and_cannot_be_found_out, "outcome_unknown"),
]


def standing(bench, tool="call"):
    found = bench.tools.get(bench.project, tool).breaker
    return found.state, found.failures


@pytest.mark.parametrize(("ends", "code"), [*ATTEMPTED, (is_disabled, "tool_disabled")])
def test_what_asks_nobody_counts_neither_as_an_answer_nor_as_a_failure(down, receiver, ends, code):
    assert ends(down).code == code
    assert standing(down) == (BreakerState.CLOSED, 0)
    down.run(down.call(job="a"))
    for _ in range(2):
        assert ends(down).code == code
    assert standing(down) == (BreakerState.CLOSED, 1)
    down.run(down.call(job="a"))
    assert standing(down) == (BreakerState.OPEN, 2)
    assert len(receiver.received) == 2


@pytest.mark.parametrize(("ends", "code"), ATTEMPTED)
def test_a_probe_that_asks_nobody_makes_room_for_another_at_once(down, receiver, ends, code):
    for _ in range(2):
        down.run(down.call(job="a"))
    with down.database.session(EVERY_ROW) as session:
        session.add(waiting(down))
    down.later(seconds=60)
    assert ends(down).code == code
    assert standing(down) == (BreakerState.OPEN, 2)
    with down.database.read(EVERY_ROW) as session:
        assert session.scalars(select(TaskRow.due_at)).all() == [down.now]
    probe, *others = down.begin(*(down.call(job="a") for _ in range(3)))
    assert isinstance(probe, Begun)
    assert [type(each) for each in others] == [Deferred] * 2
    down.record(probe.call, down.executor.execute(probe.call))
    assert standing(down) == (BreakerState.OPEN, 3)
    assert len(receiver.received) == 3


def waiting(bench):
    """The task of a call that the breaker put off for longer, as the runner leaves it."""
    bench.later(seconds=120)
    due_at = bench.now
    bench.later(seconds=-120)
    return TaskRow(
        project_id=bench.project,
        lane="incident",
        sequence=1,
        queue="tool",
        kind="ToolExecutionRequested",
        payload={},
        state=TaskState.READY,
        due_at=due_at,
        attempts=0,
        losses=0,
        limit_key="call",
        key_limit=4,
        error_code="breaker_open",
        created_at=bench.now,
    )


def test_only_the_probe_makes_room(down):
    [begun] = down.begin(down.call(job=1))
    for _ in range(2):
        down.run(down.call(job="a"))
    down.later(seconds=60)
    [probe] = down.begin(down.call(job="a"))
    assert isinstance(probe, Begun)
    assert down.record(begun.call, down.executor.execute(begun.call)).code == "input_invalid"
    assert standing(down) == (BreakerState.HALF_OPEN, 2)
    assert isinstance(down.begin(down.call(job="a"))[0], Deferred)
