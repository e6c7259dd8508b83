"""What the policy judged is what is done: the same playbook, by the same version of the pack."""

import copy

import pytest
from sqlalchemy import func, update

from nilometer.database.fence import EVERY_ROW
from nilometer.incidents import decisions
from nilometer.incidents.incident import Status
from nilometer.incidents.packs import active
from nilometer.incidents.packs.active import ActivePacks
from nilometer.incidents.packs.reading import PackInvalid, Problem
from nilometer.incidents.packs.store import Packs
from nilometer.incidents.stages.context import UNREAD_SECONDS
from nilometer.incidents.tables import IncidentEventRow
from nilometer.workflows.tables import TaskRow
from tests.incidents.handling import PACK, REFUSED, order

REDACTED = {**PACK, "normalisation": {"redaction": {"paths": ["order"]}}}
EARLY = "incident.age_seconds < 600"
FIRST_TRY = "incident.attempts == 0"


def using(tool, **more):
    """A playbook that uses one tool and is named after it."""
    step = {"name": "call", "tool": tool, "params": {"title": "mend it"}}
    return {"name": tool.replace("_", "-"), "types": ["OrderFailed"], "steps": [step], **more}


def document(policy, when=EARLY, *others):
    """A pack whose playbook `notify` fits under a condition, and these others whatever is so."""
    first = using("notify", when=when, priority=10)
    return {**copy.deepcopy(PACK), "playbooks": [first, *others], "policy": policy}


RISKY = using("key_revoke")
CAREFUL = {
    "block": {"tools": ["key_revoke"]},
    "approvals": ["high"],
    "approval_seconds": 3600,
    "separate_duties": False,
}


def approve(handling, given):
    asked = handling.told(given, "ApprovalRequested")[-1].approval_id
    handling.decide(decisions.decide_approval, asked, approve=True)
    handling.run()


def used(handling, given):
    return [each.tool for each in handling.told(given, "ToolExecutionRequested")]


def as_an_earlier_release_wrote_it(handling):
    """Take what was judged out of the decisions, and out of the tasks that wait."""
    with handling.database.session(EVERY_ROW) as session:
        for table, kind in ((IncidentEventRow, IncidentEventRow.type), (TaskRow, TaskRow.kind)):
            session.execute(
                update(table)
                .where(kind == "PolicyEvaluated")
                .values(payload=func.json_remove(table.payload, "$.playbook"))
            )


@pytest.mark.parametrize("joined", [True, False])
def test_an_approval_is_of_the_playbook_that_was_judged_however_late_it_comes(handling, joined):
    handling.joined = joined
    handling.use(document(CAREFUL, EARLY, RISKY))
    given = handling.one()
    handling.run()
    handling.later(seconds=700)
    approve(handling, given)
    incident = handling.incident(given)
    assert (incident.status, incident.playbook) == (Status.RESOLVED, "notify")
    assert used(handling, given) == ["notify"]
    assert handling.told(given, "PolicyEvaluated")[0].playbook == "notify"
    [matched] = handling.told(given, "PlaybookMatched")
    assert matched.considered == [
        "notify: what the policy judged",
        "key-revoke: not what the policy judged",
    ]


def test_where_the_policy_judged_that_there_is_no_playbook_none_follows(handling):
    handling.use(document(CAREFUL, "incident.age_seconds > 600"))
    given = handling.one()
    handling.run()
    assert handling.told(given, "PolicyEvaluated")[0].playbook is None
    handling.later(seconds=700)
    approve(handling, given)
    assert handling.incident(given).status is Status.ESCALATED
    assert handling.told(given, "ExceptionEscalated")[0].rule == "no_playbook"
    assert not handling.tools.asked


def broken_stage(handling, monkeypatch):
    """Have every attempt at a playbook fail, and so be one more attempt of its incident."""
    stage = next(each for each in handling.chain.stages if each.queue == "playbook")

    def broken(context, work):
        raise ZeroDivisionError

    monkeypatch.setattr(stage, "do", broken)


def test_what_was_allowed_is_the_same_after_its_task_was_tried_again_and_replayed(
    handling, monkeypatch
):
    handling.use(document({"block": {"tools": ["key_revoke"]}}, FIRST_TRY, RISKY))
    given = handling.one()
    with monkeypatch.context() as patch:
        broken_stage(handling, patch)
        handling.settle()
    assert [letter.queue for letter in handling.letters()] == ["playbook"]
    handling.replay()
    handling.run()
    assert handling.incident(given).failures > 0
    assert handling.incident(given).status is Status.RESOLVED
    assert used(handling, given) == ["notify"]


@pytest.mark.parametrize("again", [decisions.recalculate, decisions.reprocess])
def test_done_anew_the_policy_judges_anew(handling, again):
    handling.use(document(CAREFUL, EARLY, using("ticket", steps=[{"name": "s", "comment": "c"}])))
    given = handling.one()
    handling.run()
    if again is decisions.recalculate:  # it takes one that was stopped
        asked = handling.told(given, "ApprovalRequested")[0].approval_id
        handling.decide(decisions.decide_approval, asked, approve=False)
    handling.later(seconds=700)
    handling.decide(again, given)
    handling.run()
    approve(handling, given)
    judged = [each.playbook for each in handling.told(given, "PolicyEvaluated")]
    assert judged == ["notify", "ticket"]
    assert handling.incident(given).playbook == "ticket"
    assert not handling.tools.asked


class TestDecisionsOfAnEarlierRelease:
    """Nobody knows what they judged."""

    @pytest.mark.parametrize(
        ("late", "status", "rule"),
        [(False, Status.RESOLVED, None), (True, Status.ESCALATED, "block.tools")],
    )
    def test_an_approval_lets_nothing_by_that_the_policy_blocks(self, handling, late, status, rule):
        handling.use(document(CAREFUL, EARLY, RISKY))
        given = handling.one()
        handling.run()
        as_an_earlier_release_wrote_it(handling)
        handling.later(seconds=700 if late else 0)
        approve(handling, given)
        assert handling.incident(given).status is status
        assert used(handling, given) == ([] if late else ["notify"])
        escalated = handling.told(given, "ExceptionEscalated")
        assert [each.rule for each in escalated] == ([rule] if rule else [])

    @pytest.mark.parametrize(
        ("policy", "late", "ran"),
        [
            ({"rates": [{"name": "n", "limit": 1, "window_seconds": 60}]}, True, ["key_revoke"]),
            ({"approval_tools": ["key_revoke"]}, False, ["notify"]),
            ({"approval_tools": ["key_revoke"]}, True, []),
            ({"block": {"tools": ["key_revoke"]}}, True, []),
        ],
    )
    def test_what_was_allowed_runs_where_it_would_be_allowed_now(
        self, handling, monkeypatch, policy, late, ran
    ):
        handling.use(document(policy, EARLY, RISKY))
        given = handling.one()
        with monkeypatch.context() as patch:
            broken_stage(handling, patch)
            handling.run()
        as_an_earlier_release_wrote_it(handling)
        handling.later(seconds=700 if late else 60)
        handling.settle(seconds=0.1)
        assert used(handling, given) == ran
        assert handling.incident(given).status is (Status.RESOLVED if ran else Status.ESCALATED)


def of_a_later_release(_):
    raise PackInvalid((Problem("format", "It is of another release."),))


class OfAnotherRelease:
    """Packs of a worker that cannot read any version, though it can still see which are active."""

    def __init__(self, packs):
        self._packs = packs

    def choose(self, *asked):
        return self._packs.choose(*asked)

    def version(self, session, project_id, name, version):
        return None


def run_by(handling, packs):
    """Have another worker go on, who has these packs."""
    for each in handling.chain.stages:
        each.packs = packs
    handling.chain.tool._packs = packs


@pytest.mark.parametrize("count", [1, 2])
def test_a_playbook_whose_pack_cannot_be_read_waits_as_a_dead_letter(handling, count):
    given = [each.exception_id for each in handling.accept(*map(order, range(count)))]
    for stage in handling.stages:
        stage.look()
    sound = handling.chain.stages[0].packs
    run_by(handling, OfAnotherRelease(sound))
    handling.settle()
    letters = handling.letters()
    assert [(each.queue, each.kind) for each in letters] == [
        ("playbook", "ToolExecutionCompleted")
    ] * count
    for each in given:
        [dead] = handling.told(each, "DeadLettered")
        assert (dead.code, dead.attempts) == ("pack_unreadable", 3)
        assert dead.detail == "version 1 of the pack orders cannot be read by this release"
        assert handling.incident(each).status is Status.FAILED
    run_by(handling, sound)
    handling.replay()
    handling.settle()
    assert {handling.incident(each).status for each in given} == {Status.RESOLVED}
    assert list(handling.tools.effects.values()) == [1] * count


def test_no_policy_is_taken_for_one_that_cannot_be_read(handling):
    handling.use(document({"block": {"types": ["OrderFailed"]}}))
    sound = handling.chain.stages[0].packs
    run_by(handling, OfAnotherRelease(sound))
    given = handling.one()
    handling.settle()
    assert [each.queue for each in handling.letters()] == ["triage"]
    assert handling.told(given, "PolicyEvaluated") == []
    run_by(handling, sound)
    handling.replay()
    handling.settle()
    assert handling.incident(given).status is Status.BLOCKED


def test_what_comes_in_while_an_active_pack_cannot_be_read_is_redacted_by_it_later(
    handling, monkeypatch
):
    packs = Packs(handling.database)
    packs.add(handling.project_id, REDACTED)
    packs.activate(handling.project_id, "orders", 1)
    monkeypatch.setattr(active, "UNREAD_SECONDS", 0.0)
    run_by(handling, ActivePacks())
    with monkeypatch.context() as patch:
        patch.setattr(active, "parse_pack", of_a_later_release)
        given = handling.one()
        handling.settle()
    assert [each.queue for each in handling.letters()] == ["intake"]
    assert handling.told(given, "DeadLettered")[0].code == "pack_unreadable"
    assert handling.told(given, "ExceptionNormalized") == []
    handling.replay()
    handling.settle()
    incident = handling.incident(given)
    assert (incident.status, incident.pack) == (Status.RESOLVED, "orders")
    assert incident.payload == {"order": "[redacted:path]"}


def test_a_pack_that_cannot_be_read_is_looked_for_again_when_it_would_be_read_again(handling):
    run_by(handling, OfAnotherRelease(handling.chain.stages[0].packs))
    given = handling.one()
    handling.run()
    run_by(handling, handling.chain.stages[0].packs._packs)
    handling.later(seconds=UNREAD_SECONDS - 1)
    handling.run()
    assert handling.incident(given).status is Status.OPEN
    handling.later(seconds=1)
    handling.run()
    assert handling.incident(given).status is Status.RESOLVED


def test_a_tool_that_failed_is_a_dead_letter_whether_its_pack_can_be_read_or_not(handling):
    handling.tools.next(REFUSED)
    given = handling.one()
    for stage in handling.stages:
        stage.look()
    sound = handling.chain.stages[0].packs
    run_by(handling, OfAnotherRelease(sound))
    handling.settle()
    assert [each.queue for each in handling.letters()] == ["tool"]
    assert handling.told(given, "DeadLettered")[0].code == REFUSED.code
    run_by(handling, sound)
    handling.replay()
    handling.settle()
    assert handling.incident(given).status is Status.RESOLVED
