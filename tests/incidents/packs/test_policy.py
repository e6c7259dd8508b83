import pytest
from hypothesis import given
from hypothesis import strategies as st

from nilometer.incidents.packs.pack import Outcome
from nilometer.incidents.policy import decide, to_count
from tests.incidents.packs.made import facts, many_facts, pack, playbooks, policies

RANK = {outcome: rank for rank, outcome in enumerate(Outcome)}
STEPS = [{"name": "a", "tool": "key_revoke"}]


def decided(policy, payload=None, counts=None, **more):
    document = facts(payload, **more.pop("parts", {}))
    return decide(pack(policy=policy, **more), document, counts or {})


def rule(name, outcome, when="true"):
    return {"name": name, "when": when, "outcome": outcome}


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        (["allow", "require_approval"], "require_approval"),
        (["require_approval", "escalate", "allow"], "escalate"),
        (["escalate", "block", "require_approval"], "block"),
        (["allow"], "allow"),
        ([], "allow"),
    ],
)
def test_the_most_severe_outcome_counts_and_names_its_rule(outcomes, expected):
    found = decided({"rules": [rule(f"is-{name.replace('_', '-')}", name) for name in outcomes]})
    assert found.outcome == expected
    assert found.rule == (f"is-{expected.replace('_', '-')}" if outcomes else "default")


def test_of_the_same_outcome_the_first_rule_is_named():
    found = decided({"rules": [rule("first", "block"), rule("second", "block")]})
    assert found.rule == "first"


def test_a_guardrail_without_a_value_asks_for_an_approval_at_least():
    broken = rule("broken", "block", "exception.payload.none > 1")
    found = decided({"rules": [broken], "approval_seconds": 77})
    assert (found.outcome, found.rule, found.approval_seconds) == ("require_approval", "broken", 77)
    assert decided({"rules": [{**broken, "outcome": "allow"}]}).outcome == "allow"
    both = decided({"rules": [broken, rule("sure", "escalate")]})
    assert both.rule == "sure"


@pytest.mark.parametrize(
    ("policy", "outcome", "named"),
    [
        ({"block": {"types": ["A"]}}, "block", "block.types"),
        ({"block": {"entities": ["e"]}}, "block", "block.entities"),
        ({"block": {"source_systems": ["other"]}}, "allow", "default"),
        ({"block": {"tools": ["key_revoke"]}}, "block", "block.tools"),
        ({"allow": {"tools": ["notify"]}}, "block", "allow.tools"),
        ({"allow": {"tools": ["notify", "key_revoke"]}}, "allow", "default"),
        ({"allow": {"types": ["B"]}}, "block", "allow.types"),
        ({"allow": {"source_systems": ["tests"]}}, "allow", "default"),
        ({"approvals": ["high"]}, "require_approval", "approvals"),
        ({"approvals": ["low", "critical"]}, "allow", "default"),
        ({"approval_tools": ["key_revoke"]}, "require_approval", "approval_tools"),
        ({"confidence": {"approval_below": 0.95}}, "require_approval", "confidence.approval_below"),
        ({"confidence": {"approval_below": 0.9}}, "allow", "default"),
        (
            {"confidence": {"approval_below": 0.99, "escalate_below": 0.95}},
            "escalate",
            "confidence.escalate_below",
        ),
    ],
)
def test_lists_approvals_and_confidence_decide_by_their_own_names(policy, outcome, named):
    found = decided(
        policy,
        playbooks=[{"name": "p", "steps": STEPS}],
        parts={"exception": {"entity": "e"}},
    )
    assert (found.outcome, found.rule) == (outcome, named)


def test_without_an_entity_no_list_of_allowed_ones_lets_it_by():
    assert decided({"allow": {"entities": ["e"]}}).rule == "allow.entities"


@pytest.mark.parametrize(
    ("count", "outcome"), [(0, "allow"), (2, "allow"), (3, "escalate"), (9, "escalate")]
)
def test_a_rate_cap_counts_what_was_handled_before(count, outcome):
    policy = {"rates": [{"name": "hour", "limit": 3, "window_seconds": 3600}]}
    assert decided(policy, counts={"hour": count}).outcome == outcome


def test_what_could_not_be_counted_is_not_allowed():
    policy = {"rates": [{"name": "hour", "limit": 3, "window_seconds": 3600}]}
    assert decided(policy).outcome == "require_approval"


def test_what_is_to_be_counted_is_named_with_its_value():
    rates = [
        {"name": f"per-{per}", "per": per, "limit": 1, "window_seconds": 60}
        for per in ("project", "type", "entity", "playbook")
    ]
    made = pack(policy={"rates": rates}, playbooks=[{"name": "own", "steps": STEPS}])
    wanted = to_count(made, facts(exception={"entity": "e"}))
    assert [(each.name, each.value) for each in wanted] == [
        ("per-project", ""),
        ("per-type", "A"),
        ("per-entity", "e"),
        ("per-playbook", "own"),
    ]


def test_a_tenants_override_comes_before_the_pack():
    overrides = [
        {
            "tenants": [2],
            "approvals": [],
            "confidence": {"escalate_below": 0.99},
            "block": {"types": ["B"]},
            "approval_seconds": 5,
        }
    ]
    policy = {"approvals": ["high"]}
    ours = decided(policy, overrides=overrides)
    assert (ours.outcome, ours.approval_seconds) == ("require_approval", 3600)
    theirs = decided(policy, overrides=overrides, parts={"tenant": {"id": 2}})
    assert (theirs.outcome, theirs.rule) == ("escalate", "confidence.escalate_below")
    blocked = decided(
        policy, overrides=overrides, parts={"tenant": {"id": 2}, "exception": {"type": "B"}}
    )
    assert blocked.rule == "override.block.types"


@given(policies, playbooks, many_facts, st.integers(0, 4))
def test_the_decision_names_a_rule_that_said_so_and_nothing_more_severe_was_said(
    policy, books, document, count
):
    made = pack(policy=policy, playbooks=books)
    counts = {each.name: count for each in to_count(made, document)}
    found = decide(made, document, counts)
    assert found == decide(made, document, counts)
    said = [each for each in found.considered if each.outcome is not None]
    if said:
        assert any(each.rule == found.rule and each.outcome is found.outcome for each in said)
        assert RANK[found.outcome] == max(RANK[each.outcome] for each in said)
    else:
        assert (found.outcome, found.rule) == (Outcome.ALLOW, "default")
    assert (found.approval_seconds is not None) is (found.outcome is Outcome.REQUIRE_APPROVAL)
    assert found.reason
