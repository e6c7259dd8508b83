"""People hear of what needs a person, once, and not of everything."""

from collections import Counter
from dataclasses import replace

import pytest
from sqlalchemy import select

from nilometer.database.fence import EVERY_ROW
from nilometer.incidents import telling
from nilometer.incidents.events import SLAImminent
from nilometer.incidents.history import History
from nilometer.incidents.incident import NewException, Status
from nilometer.notifications.channel_store import Channels
from nilometer.notifications.channels import ChannelKind
from nilometer.notifications.configuration import Egress
from nilometer.notifications.reach import Reach
from nilometer.notifications.tables import DeliveryRow
from tests.incidents.handling import BOB, PACK, REFUSED, order

ADDRESS = {"url": "http://127.0.0.1:9/"}
DOCUMENT = {
    **PACK,
    "normalisation": {"sla_seconds": {"critical": 100}},
    "policy": {"approvals": ["critical"], "approval_seconds": 600},
}
ESCALATES = {"rules": [{"name": "no", "when": "true", "outcome": "escalate", "reason": "ask us"}]}
WHEN = "exception.payload[exception.payload.who] == 1"
NAMED = "{{ exception.payload.who }} is ill"
BOOK = {"name": "mend", "types": ["OrderFailed"]}


@pytest.fixture
def channels(handling):
    return Channels(handling.database, Egress(Reach.parse("127.0.0.0/8")))


@pytest.fixture
def told(handling, channels):
    """Adds a channel; asked, what it was told."""
    channels.add(handling.project_id, "hook", ChannelKind.WEBHOOK, ADDRESS)

    def asked():
        with handling.database.read(EVERY_ROW) as session:
            rows = session.scalars(select(DeliveryRow).order_by(DeliveryRow.created_at))
            return [row.notification for row in rows]

    return asked


def test_an_approval_its_deadline_and_its_end_are_told_with_what_to_act_on(handling, told):
    handling.use(DOCUMENT)
    given = handling.one(order(severity="critical"))
    handling.run()
    handling.later(seconds=81)
    handling.sweep()
    handling.later(seconds=600)
    handling.sweep()
    kinds = [each["type"].removeprefix("exception.") for each in told()]
    assert kinds[:2] == ["approval_requested", "deadline_imminent"]
    assert sorted(kinds[2:]) == ["deadline_expired", "escalated"]
    asked = told()[0]
    assert asked["title"] == "Approval asked: OrderFailed (critical)"
    assert asked["facts"]["exception_id"] == given
    approval = handling.told(given, "ApprovalRequested")[0]
    assert asked["facts"]["approval_id"] == approval.approval_id
    assert approval.expires_at in asked["text"]


def test_a_dead_letter_is_told_once_of_an_incident_and_nothing_that_was_sent(handling, told):
    handling.tools.next(REFUSED, REFUSED)
    given = handling.one()
    handling.settle()
    handling.replay()
    handling.settle()
    assert handling.types(given).count("DeadLettered") == 2
    (only,) = told()
    assert only["type"] == "exception.dead_lettered"
    assert only["facts"]["dead_letter_id"] == handling.letters()[0].id
    assert "order" not in only["facts"]
    assert handling.incident(given).status is Status.FAILED


@pytest.mark.parametrize(
    "document",
    [
        {"policy": {"rules": [{"name": "odd", "when": WHEN, "outcome": "require_approval"}]}},
        {"playbooks": [BOOK | {"steps": [{"name": "hand", "escalate": NAMED}]}]},
        {
            "playbooks": [
                BOOK
                | {
                    "steps": [
                        {"name": "own", "assign": NAMED},
                        {"name": "hand", "escalate": "ask us"},
                    ]
                }
            ]
        },
        {"playbooks": [BOOK | {"steps": [{"name": "fail", "comment": "{{ " + WHEN + " }}"}]}]},
    ],
)
def test_nothing_of_the_payload_is_told(handling, told, document):
    handling.use({**PACK, **document})
    given = handling.one(NewException("order_failed", "shop", payload={"who": "Ada has flu"}))
    handling.run()
    (only,) = told()
    assert only["facts"]["exception_id"] == given
    assert "Ada" not in str(only)


def test_what_failed_is_told_by_its_stage_and_code_and_not_in_its_words(handling, told):
    handling.tools.next(replace(REFUSED, detail="Ada has flu."))
    given = handling.one()
    handling.run()
    (only,) = told()
    assert "The stage tool gave it up: refused." in only["text"]
    assert "Ada" not in str(only)
    assert "Ada" in handling.told(given, "DeadLettered")[0].detail


def test_what_is_undone_was_never_told(handling, told):
    given = handling.one()
    handling.run()

    def undone():
        with handling.database.session(EVERY_ROW) as session:
            history = History(session, handling.now)
            incident = history.one(handling.project_id, given)
            history.change(incident, SLAImminent("soon"), actor=BOB)
            history.flush()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        undone()
    assert told() == []


def test_a_flood_is_told_a_few_times_and_the_last_says_so(handling, told, monkeypatch):
    monkeypatch.setattr(telling, "MOST", 3)
    handling.use({**PACK, "policy": ESCALATES})
    handling.accept(*map(order, range(5)))
    handling.run()
    handling.accept(*map(order, range(5)))
    handling.run()
    texts = [each["text"] for each in told()]
    assert Counter("no more of these" in text for text in texts) == {False: 2, True: 1}
    monkeypatch.setattr(telling, "WINDOW", -telling.WINDOW)  # an hour later
    handling.one()
    handling.run()
    assert len(told()) == 4


def test_a_channel_that_is_for_other_things_and_a_project_without_any_are_told_nothing(
    handling, channels, told
):
    handling.use({**PACK, "policy": ESCALATES})
    (hook,) = channels.list(handling.project_id)
    channels.change(handling.project_id, hook.id, given={"exceptions": False})
    handling.one()
    handling.run()
    assert told() == []
    channels.change(handling.project_id, hook.id, given={"exceptions": None})
    handling.one()
    handling.run()
    assert [each["type"] for each in told()] == ["exception.escalated"]
    channels.remove(handling.project_id, hook.id)
    given = handling.one()
    handling.run()
    assert handling.incident(given).status is Status.ESCALATED
    assert len(told()) == 1
