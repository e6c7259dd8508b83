import pytest
from hypothesis import given

from nilometer.incidents.incident import Severity
from nilometer.incidents.triage import MAX_KEPT, MAX_WORDS, kept_of, triage
from tests.incidents.packs.made import facts, many_facts, pack, triages

RULES = {
    "rules": [
        {
            "name": "big",
            "when": "exception.payload.n > 10",
            "severity": "critical",
            "confidence": 0.8,
        },
        {"name": "any", "severity": "low", "confidence": 0.99},
        {"name": "b-only", "types": ["B"], "severity": "high"},
    ]
}


def test_the_highest_severity_of_matching_rules_counts_with_its_own_confidence():
    judged = triage(pack(triage=RULES), facts({"n": 11}))
    assert (judged.severity, judged.confidence) == (Severity.CRITICAL, 0.8)
    assert judged.rules == ("big", "any")
    assert [str(each) for each in judged.reasons] == [
        "big: critical: exception.payload.n > 10",
        "any: low: true",
        "severity: critical, the highest that a rule says",
    ]


def test_a_rule_without_a_value_does_not_match_and_says_why():
    judged = triage(pack(triage=RULES), facts({}))
    assert judged.severity is Severity.LOW
    assert "could not be evaluated" in judged.reasons[0].sentence


@pytest.mark.parametrize(
    ("members", "stated", "severity", "confidence"),
    [
        ({}, None, "medium", 0.3),
        ({"exceptions": [{"type": "A", "severity": "low"}]}, None, "low", 0.6),
        ({"exceptions": [{"type": "A", "severity": "low"}]}, "critical", "critical", 0.7),
        ({"exceptions": [{"type": "A", "severity": "low"}]}, "awful", "low", 0.6),
        ({"triage": {"rules": [{"name": "r", "severity": "low"}]}}, "critical", "low", 0.9),
        (
            {
                "triage": {"rules": [{"name": "r", "severity": "critical"}]},
                "overrides": [{"tenants": [1], "severities": {"A": "low"}}],
            },
            "high",
            "low",
            1.0,
        ),
        ({"overrides": [{"tenants": [2], "severities": {"A": "low"}}]}, "high", "high", 0.7),
    ],
)
def test_of_the_severity_the_first_that_says_one_decides(members, stated, severity, confidence):
    judged = triage(pack(**members), facts(exception={"severity": stated}))
    assert (judged.severity, judged.confidence) == (severity, confidence)


def test_the_first_classification_that_is_true_gives_the_type_and_its_rules_apply():
    judged = triage(
        pack(
            triage={
                "classify": [
                    {"name": "no", "when": "exception.payload.n > 1", "type": "C"},
                    {"name": "yes", "when": 'exception.type == "A"', "type": "B"},
                    {"name": "late", "when": "true", "type": "C"},
                ],
                "rules": [
                    *RULES["rules"],
                    {"name": "of-b", "when": 'exception.type == "B"', "severity": "medium"},
                ],
            }
        ),
        facts({"n": 1}),
    )
    assert judged.type == "B"
    assert judged.rules == ("yes", "any", "b-only", "of-b")
    assert judged.severity is Severity.HIGH


@given(triages, many_facts)
def test_triage_is_total_and_deterministic(rules, document):
    made = pack(triage=rules)
    judged = triage(made, document)
    assert judged == triage(made, document)
    assert 0 <= judged.confidence <= 1
    assert judged.severity in set(Severity)
    names = {each["name"] for each in [*rules["rules"], *rules["classify"]]}
    assert set(judged.rules) <= names
    said = [each["severity"] for each in rules["rules"] if each["name"] in judged.rules]
    if said:
        assert judged.severity == max(said, key=list(Severity).index)


def test_what_is_kept_of_the_reasons_is_short_however_long_the_pack_is():
    condition = "exception.payload.n == 7 || " * 30 + "false"
    rules = [{"name": f"r{i}", "severity": "low", "when": condition} for i in range(200)]
    kept = kept_of([str(each) for each in triage(pack(triage={"rules": rules}), facts()).reasons])
    assert len(kept) == MAX_KEPT + 1
    assert max(map(len, kept)) <= MAX_WORDS
    assert kept[-1] == "severity: medium, nobody says how severe it is"
    judged = triage(pack(triage={"rules": rules[:1]}), facts({"n": 1}))
    assert kept_of([str(each) for each in judged.reasons])[0] == "r0: not true"
