"""The chain from an exception to what came of it: each step told, in order, once."""

import copy
import sqlite3
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta
from typing import ClassVar

import pytest
from sqlalchemy import event, update
from sqlalchemy.exc import OperationalError

from nilometer.access.accounts import Accounts
from nilometer.access.projects import Projects
from nilometer.access.tables import Project
from nilometer.access.types import CaptureMode
from nilometer.database.engine import DatabaseUnavailable
from nilometer.database.fence import EVERY_ROW
from nilometer.errors import InvalidInput, NotFound
from nilometer.incidents import decisions, feedback
from nilometer.incidents.approvals import SeparationOfDuties
from nilometer.incidents.incident import Deadline, NewException, Severity, Status
from nilometer.incidents.lifecycle import Conflict
from nilometer.incidents.stage_health import chain_health
from nilometer.incidents.stages.chain import Clock
from nilometer.observability.metrics import REGISTRY
from tests.incidents.handling import (
    ALICE,
    BOB,
    BUSY,
    PACK,
    REFUSED,
    UNHEARD,
    UNKNOWABLE,
    contiguous,
    order,
)
from tests.running import wait_until


def pack(**changes):
    """The pack of the tests with other parts."""
    return {**copy.deepcopy(PACK), **changes}


def playbook(*steps, **more):
    return [{"name": "mend", "types": ["OrderFailed"], "steps": list(steps), **more}]


SECONDS = "nilometer_incident_tool_seconds_count"
CALL = {"name": "call", "tool": "notify", "params": {"title": "mend it"}}
ASK = {"name": "ask", "manual": {"instructions": "Ring {{ exception.payload.order }}"}}

WHOLE = [
    *("ExceptionIngested", "ExceptionNormalized", "TriageCompleted", "PolicyEvaluated"),
    *("PlaybookMatched", "StepExecutionRequested", "CommentAdded", "StepCompleted"),
    *("StepExecutionRequested", "ToolExecutionRequested", "ToolExecutionCompleted"),
    *("StepCompleted", "PlaybookCompleted", "ExceptionResolved", "FeedbackCaptured"),
]


def test_an_exception_is_read_judged_allowed_handled_and_resolved(handling):
    before = REGISTRY.get_sample_value(SECONDS)
    given = handling.one()
    handling.run()
    incident = handling.incident(given)
    assert handling.types(given) == WHOLE
    assert contiguous(handling.events(given))
    assert (incident.status, incident.severity, incident.playbook) == (
        Status.RESOLVED,
        Severity.HIGH,
        "mend",
    )
    assert (incident.exception_type, incident.pack, incident.automatic) == (
        "OrderFailed",
        "orders",
        True,
    )
    assert handling.told(given, "CommentAdded")[0].text == "Order 1"
    assert handling.tools.effects.total() == 1
    assert handling.waiting() == 0
    assert REGISTRY.get_sample_value(SECONDS) == before + 1


@pytest.mark.parametrize("joined", [True, False])
def test_a_batch_has_the_same_history_as_one_that_comes_alone(tmp_path, handling, joined):
    handling.joined = joined
    handling.use(PACK)
    given = handling.accept(*(order(number) for number in range(5)))
    handling.run()
    assert {tuple(handling.types(each.exception_id)) for each in given} == {tuple(WHOLE)}
    assert all(contiguous(handling.events(each.exception_id)) for each in given)
    assert list(handling.tools.effects.values()) == [1] * 5


@pytest.mark.parametrize("count", [1, 2])
def test_what_needs_nobody_is_done_in_one_transaction_to_the_tool_and_from_it(handling, count):
    given = handling.accept(*(order(number) for number in range(count)))
    assert handling.stages[0].look()
    assert not any(stage.look() for stage in handling.stages)
    assert handling.effects.look()
    wait_until(lambda: len(handling.effects._performed) == count)
    assert handling.effects.record()
    assert handling.waiting() == 0
    assert {tuple(handling.types(each.exception_id)) for each in given} == {tuple(WHOLE)}


@pytest.mark.parametrize(
    ("queue", "kind"),
    [
        ("triage", "ExceptionNormalized"),
        ("policy", "TriageCompleted"),
        ("playbook", "ToolExecutionCompleted"),
        ("feedback", "ExceptionResolved"),
    ],
)
def test_a_failure_is_that_of_the_stage_it_happened_in(handling, monkeypatch, queue, kind):
    stage = next(each for each in handling.chain.stages if each.queue == queue)
    sound, given = stage.do, handling.one()

    def broken(context, work):
        if work.kind == kind:
            raise ZeroDivisionError
        sound(context, work)

    monkeypatch.setattr(stage, "do", broken)
    handling.settle()
    assert [letter.queue for letter in handling.letters()] == [queue]
    assert handling.tools.effects.total() == (queue in ("playbook", "feedback"))
    monkeypatch.setattr(stage, "do", sound)
    handling.replay()
    handling.settle()
    assert handling.incident(given).status is Status.RESOLVED
    assert handling.tools.effects.total() == 1
    assert contiguous(handling.events(given))


def test_a_database_that_fails_is_no_failure_of_a_task(handling, monkeypatch):
    given, stage = handling.one(), handling.chain.stages[1]

    def broken(context, work):
        raise OperationalError("", {}, sqlite3.OperationalError("database or disk is full"))

    with monkeypatch.context() as patch:
        patch.setattr(stage, "do", broken)
        with pytest.raises(DatabaseUnavailable):
            handling.stages[0].look()
    assert handling.types(given) == ["ExceptionIngested"]
    handling.run()
    assert handling.types(given) == WHOLE


def test_without_a_pack_an_exception_is_judged_by_what_it_says_and_handed_to_a_person(bare):
    plain = bare.one(NewException("Odd", "shop"))
    stated = bare.one(NewException("Odd", "shop", severity="Critical"))
    bare.run()
    for given, severity in ((plain, Severity.MEDIUM), (stated, Severity.CRITICAL)):
        incident = bare.incident(given)
        assert (incident.status, incident.severity) == (Status.ESCALATED, severity)
        assert (incident.exception_type, incident.pack, incident.reason) == (
            "Odd",
            None,
            "there is no playbook for Odd",
        )
        assert contiguous(bare.events(given))
        assert bare.types(given)[-2:] == ["ExceptionEscalated", "FeedbackCaptured"]


class TestDuplicates:
    FINGERPRINT: ClassVar = {
        "fingerprint": {"fields": ["string(exception.payload.order)"], "window_seconds": 60}
    }

    def test_the_same_within_the_window_is_a_duplicate_of_the_first(self, handling):
        handling.use(pack(normalisation=self.FINGERPRINT))
        [first, second, other] = handling.accept(order(1), order(1), order(2))
        handling.run()
        third = handling.one(order(1))
        handling.run()
        handling.later(seconds=61)
        later = handling.one(order(1))
        handling.run()
        found = {each: handling.incident(each) for each in (second.exception_id, third)}
        assert {each.duplicate_of for each in found.values()} == {first.exception_id}
        assert {each.status for each in found.values()} == {Status.DUPLICATE}
        for each in (first.exception_id, other.exception_id, later):
            assert handling.incident(each).status is Status.RESOLVED
        assert handling.types(third) == ["ExceptionIngested", "DuplicateDetected"]

    def test_it_is_off_unless_the_pack_asks_for_it(self, handling):
        given = handling.accept(order(1), order(1))
        handling.run()
        assert [handling.incident(each.exception_id).duplicate_of for each in given] == [None] * 2

    def test_a_duplicate_that_is_reprocessed_is_handled(self, handling):
        handling.use(pack(normalisation=self.FINGERPRINT))
        [_, second] = handling.accept(order(1), order(1))
        handling.run()
        handling.decide(decisions.reprocess, second.exception_id)
        handling.run()
        incident = handling.incident(second.exception_id)
        assert (incident.status, incident.duplicate_of, incident.run) == (Status.RESOLVED, None, 2)


class TestPolicy:
    @pytest.mark.parametrize(
        ("outcome", "status", "told"),
        [
            ("block", Status.BLOCKED, "ExceptionBlocked"),
            ("escalate", Status.ESCALATED, "ExceptionEscalated"),
        ],
    )
    def test_what_is_not_allowed_stops_the_chain_and_names_the_rule(
        self, handling, outcome, status, told
    ):
        rule = {"name": "halt", "when": "true", "outcome": outcome, "reason": "not now"}
        handling.use(pack(policy={"rules": [rule]}))
        given = handling.one()
        handling.run()
        assert handling.incident(given).status is status
        assert handling.types(given)[3:] == ["PolicyEvaluated", told, "FeedbackCaptured"]
        assert handling.told(given, "PolicyEvaluated")[0].rule == "halt"
        assert not handling.tools.asked
        assert handling.waiting() == 0

    def test_a_cap_lets_so_many_by_in_a_batch_and_over_batches(self, handling):
        cap = {"name": "few", "per": "type", "limit": 3, "window_seconds": 60}
        handling.use(pack(policy={"rates": [cap]}))
        given = handling.accept(*(order(number) for number in range(2)))
        handling.run()
        given += handling.accept(*(order(number) for number in range(3)))
        handling.run()
        statuses = [handling.incident(each.exception_id).status for each in given]
        assert statuses.count(Status.RESOLVED) == 3
        assert statuses.count(Status.ESCALATED) == 2
        handling.later(seconds=61)
        late = handling.one()
        handling.run()
        assert handling.incident(late).status is Status.RESOLVED

    @pytest.mark.parametrize("together", [True, False])
    def test_what_is_handled_again_does_not_stand_in_its_own_way(self, handling, together):
        cap = {"name": "few", "per": "type", "limit": 2, "window_seconds": 60}
        handling.use(pack(policy={"rates": [cap]}, playbooks=playbook(CALL)))
        handling.tools.next(REFUSED, REFUSED)
        given = [each.exception_id for each in handling.accept(order(1), order(2))]
        handling.run()
        for each in given:
            handling.decide(decisions.reprocess, each)
            if not together:
                handling.run()
        handling.later(seconds=1)
        given.append(handling.one(order(3)))
        handling.run()
        # Each counts once, however often it was handled: the third is one too many.
        statuses = [handling.incident(each).status for each in given]
        assert statuses == [Status.RESOLVED, Status.RESOLVED, Status.ESCALATED]


class TestApprovals:
    POLICY: ClassVar = {"approvals": ["high"], "approval_seconds": 600, "separate_duties": True}

    @pytest.fixture
    def asked(self, handling):
        """A chain, an incident that waits, and the approval that it waits for."""
        handling.use(pack(policy=self.POLICY))
        given = handling.one()
        handling.run()
        assert handling.incident(given).status is Status.AWAITING_APPROVAL
        return handling, given, handling.told(given, "ApprovalRequested")[0].approval_id

    def test_once_it_is_approved_the_chain_goes_on(self, asked):
        handling, given, approval = asked
        assert handling.waiting() == 0
        row = handling.decide(decisions.decide_approval, approval, approve=True, note="fine")
        assert row.decided_by == "key:bob"
        handling.run()
        assert handling.incident(given).status is Status.RESOLVED
        assert handling.incident(given).automatic is False
        assert contiguous(handling.events(given))

    def test_rejected_it_is_blocked_and_nothing_is_used(self, asked):
        handling, given, approval = asked
        handling.decide(decisions.decide_approval, approval, approve=False, note="no")
        handling.run()
        assert handling.incident(given).status is Status.BLOCKED
        assert not handling.tools.asked

    def test_it_is_decided_once(self, asked):
        handling, _, approval = asked
        handling.decide(decisions.decide_approval, approval, approve=True)
        for approve in (True, False):
            with pytest.raises(Conflict) as refused:
                handling.decide(decisions.decide_approval, approval, approve=approve)
            assert refused.value.code == "approval_decided"

    def test_who_raised_the_exception_may_not_decide(self, asked):
        handling, given, approval = asked
        with pytest.raises(SeparationOfDuties):
            handling.decide(decisions.decide_approval, approval, approve=True, actor=ALICE)
        assert handling.incident(given).status is Status.AWAITING_APPROVAL

    def test_who_raised_it_may_where_the_pack_says_so(self, handling):
        handling.use(pack(policy={**self.POLICY, "separate_duties": False}))
        given = handling.one()
        handling.run()
        approval = handling.told(given, "ApprovalRequested")[0].approval_id
        handling.decide(decisions.decide_approval, approval, approve=True, actor=ALICE)
        handling.run()
        assert handling.incident(given).status is Status.RESOLVED

    def test_nobody_decides_and_it_expires_once(self, asked):
        handling, given, approval = asked
        handling.later(seconds=599)
        assert handling.sweep() == 0
        handling.later(seconds=1)
        with pytest.raises(Conflict) as refused:
            handling.decide(decisions.decide_approval, approval, approve=True)
        assert refused.value.code == "approval_expired"
        assert (handling.sweep(), handling.sweep()) == (1, 0)
        handling.run()
        assert handling.incident(given).status is Status.ESCALATED
        assert handling.told(given, "ApprovalDecided")[0].outcome == "expired"
        assert contiguous(handling.events(given))

    def test_another_projects_is_not_there(self, asked):
        handling, _, approval = asked
        handling.project_id = Accounts(handling.database).create_project("other").project_id
        with pytest.raises(NotFound):
            handling.decide(decisions.decide_approval, approval, approve=True)

    def test_reprocessing_takes_the_question_back(self, asked):
        handling, given, approval = asked
        handling.decide(decisions.reprocess, given)
        with pytest.raises(Conflict):
            handling.decide(decisions.decide_approval, approval, approve=True)
        handling.run()
        assert len(handling.told(given, "ApprovalRequested")) == 2


class TestManualSteps:
    @pytest.fixture
    def waiting(self, handling):
        handling.use(pack(playbooks=playbook({**ASK, "timeout_seconds": 60.0}, CALL)))
        given = handling.one()
        handling.run()
        assert handling.incident(given).status is Status.WAITING
        return handling, given

    def test_the_playbook_waits_for_a_person_and_goes_on(self, waiting):
        handling, given = waiting
        assert handling.told(given, "StepExecutionRequested")[0].instructions == "Ring 1"
        handling.decide(decisions.complete_step, given, "ask", note="rang")
        handling.run()
        incident = handling.incident(given)
        assert (incident.status, incident.automatic) == (Status.RESOLVED, False)
        assert incident.steps["ask"]["output"] == {"note": "rang"}
        assert contiguous(handling.events(given))

    def test_a_step_is_completed_once_and_only_the_one_that_is_waited_for(self, waiting):
        handling, given = waiting
        with pytest.raises(Conflict):
            handling.decide(decisions.complete_step, given, "call")
        handling.decide(decisions.complete_step, given, "ask")
        with pytest.raises(Conflict):
            handling.decide(decisions.complete_step, given, "ask")

    def test_a_step_that_cannot_be_done_fails_the_playbook(self, waiting):
        handling, given = waiting
        handling.decide(decisions.complete_step, given, "ask", succeeded=False)
        handling.run()
        assert handling.incident(given).status is Status.ESCALATED
        assert handling.told(given, "PlaybookCompleted")[0].status == "failed"
        assert not handling.tools.asked

    def test_a_step_that_nobody_does_in_time_fails(self, waiting):
        handling, given = waiting
        handling.later(seconds=60)
        assert (handling.sweep(), handling.sweep()) == (1, 0)
        handling.run()
        incident = handling.incident(given)
        assert (incident.status, incident.steps["ask"]["code"]) == (Status.ESCALATED, "timed_out")

    def test_a_new_choice_of_playbook_begins_with_the_policy(self, waiting):
        handling, given = waiting
        handling.use(PACK)
        handling.decide(decisions.recalculate, given)
        handling.run()
        incident = handling.incident(given)
        assert (incident.status, incident.run, list(incident.steps)) == (
            Status.RESOLVED,
            2,
            ["note", "call"],
        )
        assert len(handling.told(given, "PolicyEvaluated")) == 2


class TestTools:
    @pytest.mark.parametrize("failures", [1, 2])
    def test_what_fails_a_few_times_succeeds_with_exactly_one_attempt_more(
        self, handling, failures
    ):
        handling.tools.next(*[BUSY] * failures)
        given = handling.one()
        handling.settle()
        [completed] = handling.told(given, "ToolExecutionCompleted")
        assert (completed.outcome, completed.attempts) == ("succeeded", failures + 1)
        assert len(handling.told(given, "RetryScheduled")) == failures
        assert list(handling.tools.asked.values()) == [failures + 1]
        assert list(handling.tools.effects.values()) == [1]
        assert handling.incident(given).status is Status.RESOLVED
        assert contiguous(handling.events(given))

    def test_attempts_end_in_a_dead_letter_and_a_replay_has_them_all_again(self, handling):
        handling.tools.next(*[BUSY] * 5)
        given = handling.one()
        handling.settle()
        assert list(handling.tools.asked.values()) == [3]
        assert handling.incident(given).status is Status.FAILED
        [letter] = handling.letters()
        assert (letter.queue, letter.error_code, letter.payload["tool"]) == (
            "tool",
            "busy",
            "notify",
        )
        handling.replay()
        assert handling.incident(given).status is Status.IN_PROGRESS
        handling.settle()
        assert list(handling.tools.asked.values()) == [6]
        assert list(handling.tools.effects.values()) == [1]
        assert handling.incident(given).status is Status.RESOLVED
        assert handling.told(given, "DeadLetterReplayed")[0].reason == "mended"
        assert contiguous(handling.events(given))

    def test_a_refusal_is_not_tried_again(self, handling):
        handling.tools.next(REFUSED)
        given = handling.one()
        handling.settle()
        assert list(handling.tools.asked.values()) == [1]
        assert len(handling.letters()) == 1
        assert handling.told(given, "RetryScheduled") == []

    def test_a_dead_letter_that_is_discarded_leaves_the_incident_to_a_person(self, handling):
        handling.tools.next(REFUSED)
        given = handling.one()
        handling.settle()
        [letter] = handling.letters()
        with pytest.raises(InvalidInput):
            handling.decide(decisions.discard_dead_letter, letter.id, reason=" ")
        handling.decide(decisions.discard_dead_letter, letter.id, reason="not worth it")
        handling.run()
        incident = handling.incident(given)
        assert (incident.status, incident.reason) == (Status.ESCALATED, "not worth it")
        assert not handling.letters()
        handling.decide(decisions.resolve, given, reason="done by hand")
        handling.run()
        assert handling.incident(given).status is Status.RESOLVED
        assert contiguous(handling.events(given))

    def test_where_the_playbook_says_what_to_do_a_failure_is_no_dead_letter(self, handling):
        steps = ({**CALL, "on_failure": "continue"}, {"name": "after", "comment": "went on"})
        handling.use(pack(playbooks=playbook(*steps)))
        handling.tools.next(*[BUSY] * 3)
        given = handling.one()
        handling.settle()
        assert not handling.letters()
        assert handling.told(given, "ToolExecutionCompleted")[0].outcome == "failed"
        assert handling.incident(given).status is Status.RESOLVED

    def test_a_step_of_recovery_comes_after_a_failure(self, handling):
        book = playbook(
            {**CALL, "on_failure": "undo"}, recovery=[{"name": "undo", "comment": "undone"}]
        )
        handling.use(pack(playbooks=book))
        handling.tools.next(REFUSED)
        given = handling.one()
        handling.settle()
        assert handling.told(given, "CommentAdded")[0].text == "undone"
        assert handling.incident(given).status is Status.ESCALATED
        assert not handling.letters()

    def test_an_unknown_outcome_is_found_out_and_not_brought_about_again(self, handling):
        handling.tools.next(UNHEARD)
        given = handling.one()
        handling.settle()
        assert list(handling.tools.asked.values()) == [1]
        assert list(handling.tools.effects.values()) == [1]
        assert handling.tools.reconciled.total() == 1
        assert handling.incident(given).status is Status.RESOLVED

    def test_what_cannot_be_found_out_waits_for_a_person(self, handling):
        handling.tools.next(UNKNOWABLE)
        given = handling.one()
        handling.settle()
        assert list(handling.tools.effects.values()) == [1]
        assert handling.tools.reconciled.total() == 0
        [letter] = handling.letters()
        execution = letter.payload["executionId"]
        handling.decide(
            lambda session, project, actor, now: handling.chain.tool._executions.decide(
                session, project, execution, succeeded=True, actor=str(actor), now=now
            )
        )
        handling.replay()
        handling.settle()
        assert list(handling.tools.asked.values()) == [1]
        assert handling.incident(given).status is Status.RESOLVED

    def test_a_step_that_is_given_up_says_so_and_a_replay_has_all_its_time_again(self, handling):
        retries = {"attempts": 3, "initial_seconds": 1.0}
        step = {**CALL, "retries": retries, "timeout_seconds": 30.0}
        handling.use(pack(playbooks=playbook(step)))
        handling.tools.next(*[BUSY] * 4)
        given = handling.one()
        handling.settle(seconds=4)
        assert handling.tools.asked.total() == 3
        found = handling.incident(given).steps["call"]
        assert (found["status"], found["code"]) == ("given_up", "busy")
        handling.later(hours=1)
        handling.replay()
        handling.settle(seconds=4)
        assert handling.tools.asked.total() == 5
        assert handling.incident(given).status is Status.RESOLVED
        assert handling.incident(given).steps["call"]["status"] == "succeeded"
        assert "code" not in handling.incident(given).steps["call"]

    def test_a_playbook_that_goes_on_whatever_comes_does_so_when_nobody_knows(self, handling):
        steps = ({**CALL, "on_failure": "continue"}, {"name": "after", "comment": "went on"})
        handling.use(pack(playbooks=playbook(*steps)))
        handling.tools.next(UNKNOWABLE)
        given = handling.one()
        handling.settle()
        assert not handling.letters()
        assert handling.told(given, "ToolExecutionCompleted")[0].code == "timeout"
        assert handling.told(given, "CommentAdded")[0].text == "went on"
        assert handling.incident(given).status is Status.RESOLVED

    def test_what_waits_for_a_breaker_keeps_its_place_and_says_so_once(self, handling):
        step = {**CALL, "retries": {"attempts": 20, "initial_seconds": 1.0}}
        handling.use(pack(playbooks=playbook(step)))
        handling.tools.next(*[BUSY] * 8)
        given = [each.exception_id for each in handling.accept(*(order(n) for n in range(8)))]
        handling.run()
        before = handling.tools.asked.total()
        handling.tools.plan.clear()
        for _ in range(3):  # each time one goes through, and fails
            handling.tools.next(BUSY)
            handling.later(seconds=125)
            handling.run()
        assert handling.tools.asked.total() == before + 3
        told = [
            [each.code for each in handling.told(one, "RetryScheduled")].count("breaker_open")
            for one in given
        ]
        assert max(told) == 1
        handling.later(seconds=125)
        handling.run()  # one goes through, succeeds, and lets all others begin at once
        assert {handling.incident(each).status for each in given} == {Status.RESOLVED}
        assert all(contiguous(handling.events(each)) for each in given)

    def test_what_waits_for_a_breaker_for_longer_than_its_step_may_is_given_up(self, handling):
        step = {**CALL, "retries": {"attempts": 20}, "timeout_seconds": 30.0}
        handling.use(pack(playbooks=playbook(step)))
        handling.tools.next(*[BUSY] * 8)
        given = [each.exception_id for each in handling.accept(*(order(n) for n in range(8)))]
        handling.run()
        before = handling.tools.asked.total()
        handling.tools.plan.clear()
        handling.later(seconds=5)
        handling.run()
        assert not handling.letters()
        handling.later(seconds=26)
        handling.run()
        assert [each.error_code for each in handling.letters()] == ["breaker_open"] * 8
        assert handling.tools.asked.total() == before
        handling.later(seconds=60)
        handling.replay()
        handling.run()
        assert {handling.incident(each).status for each in given} == {Status.RESOLVED}

    @pytest.mark.parametrize(
        ("retries", "failed"),
        [
            ({"attempts": 3, "initial_seconds": 4.0}, BUSY),
            ({"attempts": 3}, replace(BUSY, retry_after=86400.0)),
        ],
    )
    def test_nobody_waits_for_an_attempt_that_would_come_after_the_steps_time(
        self, handling, retries, failed
    ):
        handling.use(pack(playbooks=playbook({**CALL, "retries": retries, "timeout_seconds": 3.0})))
        handling.tools.next(failed)
        given = handling.one()
        handling.run()
        assert handling.waiting() == 0
        assert handling.told(given, "RetryScheduled") == []
        [letter] = handling.letters()
        assert letter.error_code == "busy"
        assert "after the step's time" in letter.error
        assert handling.tools.asked.total() == 1
        handling.replay()
        handling.run()
        assert handling.incident(given).status is Status.RESOLVED

    def test_what_came_too_late_to_be_begun_is_not_attempted(self, handling):
        """Its workers were away, or its tool had no place."""
        late = {**CALL, "timeout_seconds": 3.0}
        after = {"name": "after", "tool": "notify", "params": {"title": "late"}}
        handling.use(pack(playbooks=playbook({**late, "on_failure": "continue"}, after)))
        goes_on = handling.one()
        for stage in handling.stages:
            stage.look()
        handling.later(seconds=3)
        handling.run()
        [completed, _] = handling.told(goes_on, "ToolExecutionCompleted")
        assert (completed.code, completed.attempts) == ("timed_out", 0)
        assert handling.tools.asked.total() == 1  # the other step's
        assert handling.incident(goes_on).status is Status.RESOLVED

        handling.use(pack(playbooks=playbook(late)))
        given = handling.one()
        for stage in handling.stages:
            stage.look()
        handling.later(hours=1)
        handling.run()
        assert [each.error_code for each in handling.letters()] == ["timed_out"]
        assert handling.tools.asked.total() == 1
        handling.replay()
        handling.run()
        assert handling.tools.asked.total() == 2
        assert handling.incident(given).status is Status.RESOLVED
        assert contiguous(handling.events(given))

    def test_each_run_has_executions_of_its_own(self, handling):
        given = handling.one()
        handling.run()
        handling.decide(decisions.reprocess, given, reason="again")
        handling.run()
        assert sorted(handling.tools.effects.values()) == [1, 1]
        assert handling.incident(given).status is Status.RESOLVED
        assert contiguous(handling.events(given))

    def test_one_failing_incident_holds_up_no_other(self, handling):
        handling.tools.next(*[BUSY] * 3)
        given = handling.accept(*(order(number) for number in range(8)))
        handling.run()
        statuses = [handling.incident(each.exception_id).status for each in given]
        assert statuses.count(Status.RESOLVED) == 5
        assert statuses.count(Status.IN_PROGRESS) == 3


class TestPoison:
    def test_what_no_stage_can_do_is_given_up_alone_and_replayed_when_mended(
        self, handling, monkeypatch
    ):
        whole = "nilometer.incidents.stages.triage.triage"
        sound = handling.chain.stages[1].do.__globals__["triage"]

        def poisoned(pack, facts):
            if facts["exception"]["payload"]["order"] == 2:
                raise ZeroDivisionError
            return sound(pack, facts)

        monkeypatch.setattr(whole, poisoned)
        given = [each.exception_id for each in handling.accept(*(order(n) for n in range(4)))]
        handling.settle()
        statuses = [handling.incident(each).status for each in given]
        assert statuses == [Status.RESOLVED, Status.RESOLVED, Status.FAILED, Status.RESOLVED]
        [letter] = handling.letters()
        assert (letter.queue, letter.attempts) == ("triage", 3)
        assert "ZeroDivisionError" in letter.error
        assert len(handling.told(given[2], "RetryScheduled")) == 2
        monkeypatch.setattr(whole, sound)
        handling.replay()
        handling.settle()
        assert handling.incident(given[2]).status is Status.RESOLVED
        assert contiguous(handling.events(given[2]))


class TestDeadlines:
    SLA: ClassVar = {"sla_seconds": {"high": 100, "low": 1000}}

    def test_imminent_and_expired_are_told_once_each(self, handling):
        handling.use(pack(normalisation=self.SLA, playbooks=playbook(ASK)))
        given = handling.one()
        handling.run()
        counts = []
        for seconds in (79, 2, 2, 17, 1, 1000):
            handling.later(seconds=seconds)
            counts.append(handling.sweep())
        assert counts == [0, 1, 0, 1, 0, 0]
        assert [len(handling.told(given, f"SLA{each}")) for each in ("Imminent", "Expired")] == [
            1,
            1,
        ]
        assert handling.incident(given).sla_state is Deadline.EXPIRED
        assert contiguous(handling.events(given))

    def test_who_was_away_tells_both(self, handling):
        handling.use(pack(normalisation=self.SLA, playbooks=playbook(ASK)))
        given = handling.one()
        handling.run()
        handling.later(hours=1)
        assert (handling.sweep(), handling.sweep()) == (1, 0)
        assert handling.types(given)[-2:] == ["SLAImminent", "SLAExpired"]

    def test_of_what_was_done_in_time_nothing_is_told(self, handling):
        handling.use(pack(normalisation=self.SLA))
        given = handling.one()
        handling.run()
        handling.later(hours=1)
        assert handling.sweep() == 0
        assert handling.incident(given).sla_state is Deadline.MET

    def test_the_deadline_is_of_the_severity_that_triage_found(self, handling):
        rule = {"name": "calm", "severity": "low"}
        handling.use(pack(normalisation=self.SLA, triage={"rules": [rule]}))
        given = handling.one(order(severity="high"))
        handling.run()
        incident = handling.incident(given)
        assert incident.sla_deadline - incident.received_at == timedelta(seconds=1000)


class TestClock:
    def test_it_tells_what_is_due_wakes_the_stages_and_tidies_up(self, handling):
        handling.use(pack(playbooks=playbook({**ASK, "timeout_seconds": 60.0})))
        given = handling.one(idempotency_key="k")
        handling.run()
        woken = []
        clock = Clock(
            handling.database,
            wake=lambda: woken.append(True),
            alone=lambda: nullcontext(True),
            now=lambda: handling.now,
        )
        assert not clock.look()
        assert not woken
        handling.later(days=8)
        assert not clock.look()
        assert woken == [True]
        handling.run()
        assert handling.incident(given).steps["ask"]["code"] == "timed_out"
        assert handling.one(order(2), idempotency_key="k") != given

    def test_one_that_cannot_tidy_tells_what_is_due_all_the_same(self, handling, monkeypatch):
        def too_long(*_):
            raise DatabaseUnavailable("it took too long")

        monkeypatch.setattr("nilometer.incidents.stages.chain.forget_keys", too_long)
        handling.use(pack(playbooks=playbook({**ASK, "timeout_seconds": 60.0})))
        given = handling.one()
        handling.run()
        handling.later(seconds=61)
        woken = []
        clock = Clock(
            handling.database,
            wake=lambda: woken.append(1),
            alone=lambda: nullcontext(True),
            now=lambda: handling.now,
        )
        with pytest.raises(DatabaseUnavailable):
            clock.look()
        assert woken == [1]
        handling.run()
        assert handling.incident(given).status is Status.ESCALATED
        assert clock.look() is False  # it tidies again in an hour
        handling.later(hours=1)
        with pytest.raises(DatabaseUnavailable):
            clock.look()

    def test_where_another_process_does_it_nothing_is_done(self, handling):
        handling.use(pack(playbooks=playbook({**ASK, "timeout_seconds": 60.0})))
        given = handling.one()
        handling.run()
        handling.later(days=8)
        clock = Clock(
            handling.database,
            wake=lambda: None,
            alone=lambda: nullcontext(False),
            now=lambda: handling.now,
        )
        assert not clock.look()
        assert handling.incident(given).status is Status.WAITING


class TestDecisions:
    def test_comments_and_owners_are_told_with_who_said_so(self, handling):
        given = handling.one()
        handling.run()
        handling.decide(decisions.comment, given, "looking")
        handling.decide(decisions.assign, given, "carol")
        handling.decide(decisions.assign, given, "carol")
        assert handling.types(given)[-2:] == ["CommentAdded", "OwnerAssigned"]
        assert handling.events(given)[-1].actor == BOB
        assert handling.incident(given).owner == "carol"
        with pytest.raises(InvalidInput):
            handling.decide(decisions.comment, given, " ")
        with pytest.raises(InvalidInput):
            handling.decide(decisions.comment, given, "x" * 4001)

    def test_what_is_being_processed_is_not_begun_again(self, handling):
        handling.joined = False
        handling.use(PACK)
        given = handling.one()
        for _ in range(4):
            with pytest.raises(Conflict) as refused:
                handling.decide(decisions.reprocess, given)
            assert refused.value.code == "being_processed"
            next(stage for stage in handling.stages if stage.look())

    def test_a_failed_incident_that_is_reprocessed_leaves_no_dead_letter(self, handling):
        handling.tools.next(REFUSED)
        given = handling.one()
        handling.settle()
        assert handling.letters()
        handling.decide(decisions.reprocess, given)
        assert not handling.letters()
        handling.settle()
        assert handling.incident(given).status is Status.RESOLVED
        assert contiguous(handling.events(given))


@pytest.mark.parametrize("mode", [CaptureMode.DROP, CaptureMode.OVER_QUOTA])
def test_of_a_project_that_is_suspended_everything_waits_and_then_goes_on(handling, mode):
    """Wherever its exceptions stand: with no stage begun, judged, and before a tool's next try."""
    projects = Projects(handling.database)
    handling.tools.next(BUSY)
    tried = handling.one()
    handling.run()
    begun = handling.one()
    handling.stages[0].look()
    accepted = handling.one()
    before = {each: handling.types(each) for each in (tried, begun, accepted)}
    asked = handling.tools.asked.total()
    projects.change(handling.project_id, mode=mode)
    for _ in range(3):
        handling.later(hours=1)
        assert not handling.look()
    assert {each: handling.types(each) for each in before} == before
    assert handling.tools.asked.total() == asked
    with handling.database.read(EVERY_ROW) as session:
        stages = chain_health(session, handling.now).stages.values()
    assert sum(each.delayed for each in stages) == 3
    assert not any(each.seconds_behind(handling.now) for each in stages)
    projects.change(handling.project_id, mode=CaptureMode.ACCEPT)
    handling.run()
    assert {handling.incident(each).status for each in before} == {Status.RESOLVED}
    assert handling.tools.asked.total() == asked + 3
    assert sorted(handling.tools.effects.values()) == [1, 1, 1]
    assert all(contiguous(handling.events(each)) for each in before)


def test_what_was_claimed_when_its_project_was_suspended_calls_no_tool(handling, monkeypatch):
    given = handling.one()
    for stage in handling.stages:
        stage.look()
    claim = handling.effects._claims.claim

    def claimed(*args):
        tasks = claim(*args)
        Projects(handling.database).change(handling.project_id, mode=CaptureMode.DROP)
        return tasks

    monkeypatch.setattr(handling.effects._claims, "claim", claimed)
    handling.run()
    assert handling.tools.asked.total() == 0
    assert handling.incident(given).status is Status.IN_PROGRESS
    monkeypatch.undo()
    Projects(handling.database).change(handling.project_id, mode=CaptureMode.ACCEPT)
    handling.run()
    [completed] = handling.told(given, "ToolExecutionCompleted")
    assert (completed.outcome, completed.attempts) == ("succeeded", 1)
    assert handling.incident(given).status is Status.RESOLVED


def test_of_a_project_that_is_being_deleted_nothing_is_done(handling):
    given = handling.one()
    with handling.database.session(EVERY_ROW) as session:
        session.execute(update(Project).values(tombstoned_at=handling.now))
    handling.run()
    assert handling.incident(given).status is Status.RECEIVED
    assert not handling.tools.asked


def test_feedback_has_outcomes_durations_and_the_rate_of_automatic_resolutions(handling):
    handling.use(pack(playbooks=playbook(CALL)))
    given = [each.exception_id for each in handling.accept(order(1), order(2), order(3))]
    handling.tools.next(REFUSED)
    handling.later(seconds=30)
    handling.settle()
    failed = next(each for each in given if handling.incident(each).status is Status.FAILED)
    handling.decide(decisions.resolve, failed, reason="by hand")
    handling.run()
    told = [handling.told(each, "FeedbackCaptured")[-1] for each in given if each != failed]
    assert {(each.outcome, each.automatic, each.seconds) for each in told} == {
        ("resolved", True, 30.0)
    }
    assert handling.told(failed, "FeedbackCaptured")[-1].automatic is False
    with handling.database.read(EVERY_ROW) as session:
        since = handling.now - timedelta(days=1)
        rates = feedback.rates(session, handling.project_id, since, handling.now)
    assert (rates.received, rates.resolved, rates.automatic) == (3, 3, 2)
    assert rates.automatic_resolution == pytest.approx(2 / 3)


def test_rates_of_a_time_read_no_incident_of_another(handling):
    statements = []
    with handling.database.read(EVERY_ROW) as session:
        listen = ("before_cursor_execute", lambda *call: statements.append((call[2], call[3])))
        event.listen(session.connection().engine, *listen)
        try:
            feedback.rates(session, handling.project_id, handling.now, handling.now)
        finally:
            event.remove(session.connection().engine, *listen)
        sql, values = statements[-1]
        plan = session.connection().exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", values).all()
    assert "(project_id=? AND id>? AND id<?)" in plan[0][-1]


def test_a_playbook_goes_on_by_the_version_of_its_pack_that_it_began_with(handling):
    handling.use(pack(playbooks=playbook(ASK, CALL)))
    given = handling.one()
    handling.run()
    versions = handling.chain.stages[0].packs
    handling.use(pack(playbooks=[{**playbook(ASK)[0], "name": "other"}]))
    for stage in handling.chain.stages:
        stage.packs.version = versions.version
    handling.decide(decisions.complete_step, given, "ask")
    handling.run()
    assert handling.incident(given).status is Status.RESOLVED
    assert handling.tools.effects.total() == 1
