"""The pack that ships: each of its five situations is judged, allowed and handled by real tools."""

from datetime import UTC, datetime

import jsonschema_rs
import pytest

from nilometer.incidents.incident import ActorKind, NewException
from nilometer.incidents.packs import built_in
from nilometer.incidents.packs.rehearsal import rehearse
from nilometer.incidents.tools.kinds import INPUTS, ToolKind

NOW = datetime(2026, 1, 31, tzinfo=UTC)
WEBHOOK = "incident-webhook"


def rehearsed(kind, payload, raised_by=ActorKind.RULE, **more):
    pack = built_in.pack_of("llm-operations")
    raised = NewException(kind, "nilometer", payload=payload)
    return rehearse(pack, raised, project_id=1, now=NOW, raised_by=raised_by, **more)


@pytest.mark.parametrize(
    ("kind", "payload", "severity", "tools"),
    [
        (
            "budget_threshold",
            {"budget_id": "b", "percent": "100.00", "spent_usd": "12.5"},
            "high",
            ["budget_hard_stop", "report_attach", "notify", WEBHOOK],
        ),
        (
            "RunawaySpend",
            {"budget_id": "b", "percent": 80},
            "medium",
            ["notify", WEBHOOK],
        ),
        (
            "error_rate",
            {"service": "openai", "error_rate": 0.4},
            "high",
            ["report_attach", "notify", WEBHOOK],
        ),
        ("LatencyP95", {"service": "openai", "latency_p95_seconds": 9}, "medium", None),
        ("KeyLeak", {"key_id": "k"}, "critical", ["key_revoke", "notify", WEBHOOK]),
        (
            "quality_drop",
            {"model": "m", "metric": "score"},
            "medium",
            ["report_attach", "notify", WEBHOOK],
        ),
        (
            "dead_letter_growth",
            {"dead_letters": 5000, "reason": "map_failed"},
            "critical",
            ["dead_letters_replay", "notify", WEBHOOK],
        ),
        ("missing_traffic", {}, "high", ["notify", WEBHOOK]),
    ],
)
def test_each_situation_is_handled_by_its_playbook(kind, payload, severity, tools):
    found = rehearsed(kind, payload)
    assert found.triaged.severity == severity
    assert found.decision.outcome == "allow", found.decision
    assert found.match.playbook is not None
    used = [each.details["tool"] for each in found.steps if each.action == "tool"]
    assert tools is None or used == tools
    for step in found.steps:
        if step.action == "tool" and step.details["tool"] != WEBHOOK:
            schema = INPUTS[ToolKind(step.details["tool"])]
            assert jsonschema_rs.validator_for(schema).is_valid(step.details["input"]), step
    assert "it is resolved" in found.ending
    for sender in (ActorKind.KEY, ActorKind.SYSTEM):
        said = rehearsed(kind, payload, raised_by=sender).decision
        assert (said.outcome, said.rule) == ("require_approval", "said-by-a-sender")


def test_a_person_moves_the_traffic_where_most_calls_fail():
    found = rehearsed("ProviderOutage", {"service": "openai", "error_rate": 0.9})
    assert [each.step for each in found.steps if each.action == "manual"] == ["move_traffic"]


def test_a_suspected_leak_waits_for_a_person():
    found = rehearsed("KeyLeak", {"key_id": "k", "confidence": 0.5})
    assert (found.decision.outcome, found.decision.rule) == ("require_approval", "suspected-leak")
    assert found.decision.approval_seconds == 1800


def test_what_cannot_be_stopped_is_handed_on():
    assert rehearsed("RunawaySpend", {"percent": 200}).decision.outcome == "escalate"
    stopped = rehearsed("RunawaySpend", {"budget_id": "b", "percent": 200}, failing=["hard_stop"])
    assert [each.step for each in stopped.steps] == ["hard_stop", "ask_for_help"]
    assert "fails at hard_stop, ask_for_help came after it" in stopped.ending


def test_a_flood_of_one_thing_is_handed_to_a_person():
    flood = rehearsed("KeyLeak", {"key_id": "k"}, counts={"same-thing": 10})
    assert (flood.decision.outcome, flood.decision.rule) == ("escalate", "rates.same-thing")


def test_every_tool_that_it_uses_is_there_or_to_be_defined():
    used = {tool for book in built_in.pack_of("llm-operations").playbooks for tool in book.tools}
    own = {kind.value for kind in INPUTS}
    assert used - own == {WEBHOOK}
    # A budget keeps the thresholds that its owner gave it.
    assert own - used == {"budget_change"}
