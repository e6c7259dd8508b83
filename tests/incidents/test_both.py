"""The chain on either database: the same statuses, histories and effects."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import event, func, select

from nilometer.access.accounts import Accounts
from nilometer.database.fence import EVERY_ROW, rows_of_project
from nilometer.errors import NotFound
from nilometer.incidents import bulk_decisions, decisions, erasing, telling
from nilometer.incidents.history import History
from nilometer.incidents.incident import Actor, ActorKind, Status
from nilometer.incidents.tables import AcceptanceRow, ApprovalRow, IncidentEventRow, IncidentRow
from nilometer.notifications.channel_store import Channels
from nilometer.notifications.channels import ChannelKind
from nilometer.notifications.configuration import Egress
from nilometer.notifications.reach import Reach
from nilometer.notifications.tables import DeliveryRow
from nilometer.workflows.enqueueing import cancel
from tests.database.both import KINDS, opened, somebody_waits
from tests.incidents.handling import BOB, BUSY, PACK, REFUSED, Handling, contiguous, order
from tests.running import wait_until

SEVERE = order(5, severity="critical")
DOCUMENT = {
    **PACK,
    "normalisation": {
        "fingerprint": {"fields": ["string(exception.payload.order)"], "window_seconds": 60},
        "sla_seconds": {"critical": 100},
        "amount": "exception.payload.order",
    },
    "policy": {
        "approvals": ["critical"],
        "approval_seconds": 600,
        "rates": [{"name": "few", "per": "playbook", "limit": 4, "window_seconds": 60}],
    },
}


@pytest.fixture(params=KINDS)
def handling(request, tmp_path):
    with opened(request, tmp_path) as database:
        yield Handling(database, DOCUMENT)


def test_every_way_that_an_exception_may_take(handling):
    handling.tools.next(BUSY, REFUSED)
    # One waits for an approval; of 1 and 1 again, 2, 3 and 4 four are allowed; 6 is too many.
    wanted = [SEVERE, order(1), order(1), order(2), order(3), order(4), order(6)]
    given = [each.exception_id for each in handling.accept(*wanted, idempotency_key="k")]
    again = handling.accept(*wanted, idempotency_key="k")
    assert [each.exception_id for each in again] == given
    handling.settle()
    statuses = [handling.incident(each).status for each in given]
    assert statuses[0] is Status.AWAITING_APPROVAL
    assert statuses[2] is Status.DUPLICATE
    assert statuses[6] is Status.ESCALATED
    assert sorted([statuses[1], *statuses[3:6]]) == [Status.FAILED, *[Status.RESOLVED] * 3]
    handling.replay()
    handling.settle()
    assert sorted(handling.tools.effects.values()) == [1, 1, 1, 1]
    handling.later(seconds=600)
    assert handling.sweep() == 2  # its deadline, and its approval
    handling.run()
    late = handling.incident(given[0])
    assert (late.status, late.sla_state, late.amount) == (Status.ESCALATED, "expired", 5)
    handling.decide(decisions.comment, given[0], "why")
    handling.decide(decisions.reprocess, given[6])
    handling.later(seconds=61)
    handling.settle()
    assert handling.incident(given[6]).status is Status.RESOLVED
    assert all(contiguous(handling.events(each)) for each in given)


def test_a_flood_of_a_sender_hushes_nothing_that_a_rule_raised(handling, monkeypatch):
    monkeypatch.setattr(telling, "MOST", 3)
    channels = Channels(handling.database, Egress(Reach.parse("127.0.0.0/8")))
    channels.add(handling.project_id, "hook", ChannelKind.WEBHOOK, {"url": "http://127.0.0.1:9/"})
    handling.use({**PACK, "policy": {"approvals": ["high"]}})

    def told():
        with handling.database.read(EVERY_ROW) as session:
            rows = session.scalars(select(DeliveryRow).order_by(DeliveryRow.created_at))
            return [row.notification for row in rows]

    handling.accept(*map(order, range(5)))
    handling.run()
    rule = Actor(ActorKind.RULE, "budget")
    handling.accept(order(), actor=rule)
    handling.run()
    assert Counter(each["facts"]["raised_by"] for each in told()) == {"key": 3, "rule": 1}
    handling.accept(*map(order, range(5)), actor=rule)
    handling.run()
    assert Counter(each["facts"]["raised_by"] for each in told()) == {"key": 3, "rule": 3}
    ends = [each["text"] for each in told() if "no more of these" in each["text"]]
    assert ["senders raise" in text for text in ends] == [True, False]


def test_a_decision_and_a_stage_that_come_together_do_not_wait_for_each_other(handling):
    given = handling.one()
    database, place = handling.database, (handling.project_id, given)
    with ThreadPoolExecutor(1) as thread:
        with database.concurrent(rows_of_project(handling.project_id)) as session:
            History(session, handling.now).one(*place)
            stage = thread.submit(handling.stages[0].look)
            wait_until(lambda: stage.done() or somebody_waits(database))
            cancel(session, [place])
        stage.result(90)  # and raises nothing
    assert handling.incident(given).status is Status.RECEIVED


def test_a_decision_within_one_projects_rows_reaches_no_other(handling):
    given = handling.one()
    other = Accounts(handling.database).create_project("other").project_id
    for project in (other, handling.project_id):
        with handling.database.session(rows_of_project(project)) as session:
            if project == other:
                with pytest.raises(NotFound):
                    decisions.assign(session, project, given, "x", actor=BOB, now=handling.now)
            else:
                decisions.assign(session, project, given, "x", actor=BOB, now=handling.now)
    assert handling.incident(given).owner == "x"


def test_of_a_project_that_is_deleted_nothing_is_left_and_of_others_everything(handling):
    other = Accounts(handling.database).create_project("other").project_id
    kept = handling.one(SEVERE, project=other, idempotency_key="k")
    handling.accept(SEVERE, order(2), idempotency_key="k")
    handling.run()
    sizes: list[int] = []
    note = ("after_cursor_execute", lambda *call: sizes.append(call[1].rowcount))
    event.listen(handling.database.engine, *note)
    assert erasing.forget(handling.database, handling.project_id, rows=3) == 2
    event.remove(handling.database.engine, *note)
    assert max(sizes) == 3  # of whatever else it would have deleted at once
    with handling.database.read(EVERY_ROW) as session:
        for row in (IncidentRow, IncidentEventRow, ApprovalRow, AcceptanceRow):
            query = select(row.project_id, func.count()).group_by(row.project_id)
            assert [each[0] for each in session.execute(query)] == [other]
    assert handling.incident(kept, other).status is Status.AWAITING_APPROVAL


def test_many_dead_letters_are_decided_about_by_two_at_once(handling):
    handling.use({**PACK, "policy": {}})
    handling.tools.next(*[REFUSED] * 12)
    given = [each.exception_id for each in handling.accept(*[order(n) for n in range(12)])]
    handling.settle()
    which = bulk_decisions.Letters(before=handling.now + timedelta(seconds=1), code="refused")

    def decide(verb):
        with handling.database.concurrent(rows_of_project(handling.project_id)) as session:
            return bulk_decisions.decide(
                *(session, handling.project_id, verb, which),
                most=8,
                actor=BOB,
                reason="mended",
                now=handling.now,
            )

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(decide, bulk_decisions.Verb)
    # Of those that both wanted each has one; nobody waits for the other for ever.
    decided = first.letter_ids + second.letter_ids
    assert len(decided) == len(set(decided)) >= 8
    handling.settle()
    while decide(bulk_decisions.Verb.REPLAY).left:
        pass
    handling.settle()
    statuses = [handling.incident(each).status for each in given]
    assert statuses.count(Status.ESCALATED) == len(second.letter_ids)
    assert statuses.count(Status.RESOLVED) == 12 - len(second.letter_ids)
    assert set(handling.tools.effects.values()) == {1}
    assert all(contiguous(handling.events(each)) for each in given)
