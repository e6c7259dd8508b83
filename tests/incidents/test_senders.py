"""What a sender says is their word: the pack that ships does nothing because of it."""

from dataclasses import replace

import pytest

from nilometer.errors import InvalidInput
from nilometer.incidents import decisions
from nilometer.incidents.incident import Actor, ActorKind, NewException, Status
from nilometer.incidents.packs.built_in import text_of
from nilometer.incidents.packs.documents import read_document
from nilometer.incidents.tools.call import ErrorClass, Failed
from tests.incidents.handling import ALICE, PACK, order

RULE = Actor(ActorKind.RULE, "rule-1")
SITUATIONS = [
    NewException("RunawaySpend", "me", payload={"budget_id": "prod", "percent": "200"}),
    NewException("ProviderOutage", "me", payload={"service": "openai", "error_rate": 0.9}),
    NewException("KeyLeak", "me", payload={"key_id": "k"}),
    NewException("QualityDrop", "me", payload={"model": "m", "metric": "score"}),
    NewException("PipelineTrouble", "me", payload={"dead_letters": 5000}),
]


@pytest.fixture
def shipped(bare):
    """The chain with the pack that ships."""
    bare.use(read_document(text_of("llm-operations").encode()).value)
    return bare


def test_of_what_a_key_says_nothing_is_done_before_a_person_agrees(shipped):
    raised = [shipped.one(each, actor=ALICE) for each in SITUATIONS]
    shipped.settle()
    for each in raised:
        assert shipped.incident(each).status is Status.AWAITING_APPROVAL
        [decided] = shipped.told(each, "PolicyEvaluated")
        assert decided.rule == "said-by-a-sender"
    assert shipped.tools.effects.total() == 0


def test_what_no_playbook_is_for_is_handed_to_a_person_and_not_first_to_be_approved(shipped):
    given = shipped.one(NewException("SettlementFailed", "billing"), actor=ALICE)
    shipped.settle()
    assert shipped.incident(given).status is Status.ESCALATED
    assert "ApprovalRequested" not in shipped.types(given)


def test_of_what_a_rule_measured_each_situation_is_handled(shipped):
    raised = [
        shipped.one(replace(each, source_system="nilometer"), actor=RULE) for each in SITUATIONS
    ]
    shipped.settle()
    allowed = [shipped.told(each, "PolicyEvaluated")[0].outcome for each in raised]
    assert allowed == ["allow"] * 5
    assert all(any(each in used for used in shipped.tools.effects) for each in raised)


@pytest.mark.parametrize("name", ["nilometer", "Nilometer", " NILOMETER ", "ｎilometer"])
def test_no_key_claims_the_name_of_what_is_raised_here(bare, name):
    with pytest.raises(InvalidInput) as refused:
        bare.one(NewException("RunawaySpend", name), actor=ALICE)
    assert (refused.value.code, refused.value.attr) == ("reserved_source", "source_system")
    assert bare.one(NewException("RunawaySpend", name.strip()), actor=RULE)


def test_what_a_key_says_first_hides_nothing_that_a_rule_measures(handling):
    fields = {"fields": ["exception.payload.order"], "window_seconds": 600}
    handling.use({**PACK, "normalisation": {"fingerprint": fields}})
    said = handling.one(order(), actor=ALICE)
    handling.run()
    measured = handling.one(order(), actor=RULE)
    again = handling.one(order(), actor=ALICE)
    handling.run()
    assert handling.incident(measured).duplicate_of is None
    assert handling.incident(again).duplicate_of == said


def test_in_a_project_without_a_channel_the_playbook_goes_on_without_it(shipped):
    shipped.tools.next(Failed("no_channel", "There is none.", ErrorClass.PERMANENT, asked=False))
    given = shipped.one(SITUATIONS[2], actor=RULE)
    shipped.settle()
    incident = shipped.incident(given)
    assert incident.status is Status.RESOLVED
    assert incident.steps["tell"]["status"] == "failed"
    assert "call_webhook" in incident.steps


@pytest.mark.parametrize("again", [decisions.recalculate, decisions.reprocess])
def test_what_a_person_rejected_only_a_person_allows(handling, again):
    asks = {"name": "asks", "when": "exception.severity == 'low'", "outcome": "require_approval"}
    handling.use({**PACK, "policy": {"rules": [asks]}})
    given = handling.one(order(severity="low"), actor=ALICE)
    handling.run()
    [asked] = handling.told(given, "ApprovalRequested")
    handling.decide(decisions.decide_approval, asked.approval_id, approve=False)
    handling.use(PACK)  # nothing is against it any more
    handling.decide(again, given)
    handling.settle()
    assert handling.incident(given).status is Status.AWAITING_APPROVAL
    assert handling.told(given, "PolicyEvaluated")[-1].rule == "rejected"
    assert handling.tools.effects.total() == 0
    handling.decide(
        decisions.decide_approval,
        handling.told(given, "ApprovalRequested")[-1].approval_id,
        approve=True,
    )
    handling.settle()
    assert handling.incident(given).status is Status.RESOLVED
