"""What was answered with an id is there, under that id, once."""

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import func, select, update

from nilometer.access.accounts import Accounts
from nilometer.access.projects import Projects
from nilometer.access.tables import Project
from nilometer.access.types import CaptureMode
from nilometer.database.fence import EVERY_ROW
from nilometer.errors import InvalidInput, NotFound
from nilometer.incidents import accept
from nilometer.incidents.accept import KEEP_KEYS, ProjectPaused
from nilometer.incidents.incident import NewException, Status
from nilometer.incidents.lifecycle import Conflict
from nilometer.incidents.raising import Raise
from nilometer.incidents.tables import AcceptanceRow, IncidentRow
from nilometer.workflows.tables import OutboxRow, TaskRow
from tests.incidents.handling import ALICE, order


def count(bare, table) -> int:
    with bare.database.read(EVERY_ROW) as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def test_an_exception_its_event_its_task_and_its_message_are_one_transaction(bare):
    given = bare.one(order(severity="odd"), traceparent="00-1-2-01")
    incident = bare.incident(given)
    assert (incident.status, incident.sequence, incident.stated_severity) == (
        Status.RECEIVED,
        1,
        "odd",
    )
    [event] = bare.events(given)
    assert event.kind.name == "ExceptionIngested"
    assert (event.actor, event.correlation_id, event.traceparent) == (ALICE, given, "00-1-2-01")
    assert count(bare, TaskRow) == count(bare, OutboxRow) == 1


def test_nothing_is_there_when_the_callers_transaction_is_undone(bare):
    def fail():
        with bare.database.session(EVERY_ROW) as session:
            accept.raise_exceptions(
                session, bare.project_id, [order()], actor=ALICE, idempotency_key="k", now=bare.now
            )
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    for table in (IncidentRow, TaskRow, OutboxRow, AcceptanceRow):
        assert count(bare, table) == 0


def test_a_key_used_again_for_the_same_gives_the_first_answer(bare):
    first = bare.accept(order(1), order(2), idempotency_key="k")
    again = bare.accept(order(1), order(2), idempotency_key="k")
    assert [each.exception_id for each in again] == [each.exception_id for each in first]
    assert {each.repeated for each in again} == {True}
    assert count(bare, IncidentRow) == count(bare, TaskRow) == 2


def test_a_key_used_for_something_else_is_refused(bare):
    bare.accept(order(1), idempotency_key="k")
    for other in (order(2), order(1, severity="low"), replace(order(1), source_system="other")):
        with pytest.raises(Conflict) as refused:
            bare.accept(other, idempotency_key="k")
        assert refused.value.code == "idempotency_key_reused"
    assert count(bare, IncidentRow) == 1


def test_a_key_belongs_to_its_project(bare):
    other = Accounts(bare.database).create_project("other").project_id
    mine = bare.one(order(1), idempotency_key="k")
    theirs = bare.one(order(2), idempotency_key="k", project=other)
    assert mine != theirs
    with pytest.raises(NotFound):
        bare.incident(mine, project=other)


def test_a_key_is_known_for_a_week_and_then_forgotten(bare):
    for number in range(3):
        bare.accept(order(number), idempotency_key=f"k{number}")
    late = bare.now + KEEP_KEYS + timedelta(hours=1)
    with bare.database.session(EVERY_ROW) as session:
        assert accept.forget_keys(session, bare.now + KEEP_KEYS - timedelta(hours=1)) == 0
        assert [accept.forget_keys(session, late, most=2) for _ in range(3)] == [2, 1, 0]


def test_of_requests_accepted_together_one_that_is_wrong_fails_alone(bare):
    asked = [
        Raise(bare.project_id, [order(1)], ALICE, "a", None, 0),
        Raise(bare.project_id, [NewException("", "shop")], ALICE, "b", None, 0),
        Raise(404, [order(3)], ALICE, None, None, 0),
        Raise(bare.project_id, [order(1)], ALICE, "a", None, 0),
    ]
    with bare.database.session(EVERY_ROW) as session:
        first, second, third, fourth = accept.accept(session, asked, bare.now)
    assert isinstance(second, InvalidInput)
    assert isinstance(third, NotFound)
    assert fourth[0].exception_id == first[0].exception_id
    assert count(bare, IncidentRow) == count(bare, AcceptanceRow) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        NewException("", "shop"),
        NewException("x" * 201, "shop"),
        NewException("a\nb", "shop"),
        NewException("a", ""),
        NewException("a", "b", severity="x" * 201),
        NewException("a", "b", payload={"x": "y" * accept.MAX_PAYLOAD_BYTES}),
        NewException("a", "b", payload={"x": object()}),
    ],
)
def test_what_is_out_of_bounds_is_refused(bare, wrong):
    with pytest.raises(InvalidInput):
        bare.accept(wrong)


def test_what_a_project_keeps_out_is_never_stored(bare):
    Projects(bare.database).change(
        bare.project_id, redaction={"patterns": ["email"], "keys": ["token"]}
    )
    payload = {"who": "write to ann@example.com", "token": "hunter2", "order": 7}
    given = bare.one(NewException("a", "b", payload=payload))
    incident = bare.incident(given)
    assert incident.payload["order"] == 7
    assert sorted(incident.redacted) == ["payload.token", "payload.who"]
    content = b"".join(
        each.read_bytes() for each in bare.database.path.parent.glob("nilometer.db*")
    )
    assert b"hunter2" not in content
    assert b"ann@example.com" not in content


def test_a_project_that_takes_nothing_in_takes_no_exceptions(bare):
    Projects(bare.database).change(bare.project_id, mode=CaptureMode.OVER_QUOTA)
    with pytest.raises(ProjectPaused):
        bare.accept()
    with bare.database.session(EVERY_ROW) as session:
        session.execute(update(Project).values(tombstoned_at=bare.now))
    with pytest.raises(NotFound):
        bare.accept()
