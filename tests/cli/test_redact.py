"""`nilometer projects redact`: sets rules, shows them, and tries them on a text without setting."""

import json

import pytest

from tests.cli.test_orgs import keyring, run, run_json  # noqa: F401

RULES = ("--pattern", "email", "--regex", r"staff=E-\d+", "--key-name", "password")
EVENT = {
    "event": "$ai_generation",
    "distinct_id": "ada@example.com",
    "properties": {"$ai_model": "m", "$ai_input": "to ada@example.com", "n": 1},
}


@pytest.fixture
def project(keyring):  # noqa: F811
    return str(run_json("projects", "create", "redacted")["id"])


def redaction(project):
    return next(p for p in run_json("projects", "list") if str(p["id"]) == project)["redaction"]


def test_rules_are_set_shown_and_removed(project):
    assert "No redaction rules" in run("projects", "redact", project).stdout
    assert "Set the redaction rules" in run("projects", "redact", project, *RULES).stdout
    rules = {
        "patterns": ["email", {"name": "staff", "regex": r"E-\d+"}],
        "keys": ["password"],
        "content": "keep",
    }
    assert redaction(project) == run_json("projects", "redact", project) == rules
    shown = run("projects", "redact", project).stdout
    assert all(word in shown for word in ("email", "staff", r"E-\d+", "password", "keep"))
    run("projects", "redact", project, "--content", "none")
    assert redaction(project) == {"patterns": [], "keys": [], "content": "none"}
    run("projects", "redact", project, "--off")
    assert redaction(project) is None


def test_a_text_is_tried_and_nothing_is_set(project):
    text = '{"a": "E-12 of ada@example.com", "Password": 1}'
    tried = run("projects", "redact", project, *RULES, "--test", text)
    told = '{"a": "[redacted:staff] of [redacted:email]", "Password": "[redacted:key:password]"}'
    assert tried.stdout == told + "\n"
    assert tried.stderr == "redacted: email 1, key:password 1, staff 1\n"
    assert redaction(project) is None
    made = run_json("projects", "redact", project, *RULES, "--test", "nothing in here")
    assert made == {"text": "nothing in here", "redacted": {}}


def test_the_projects_own_rules_are_tried_on_what_stdin_gives(project):
    assert (
        run("projects", "redact", project, "--test", "ada@example.com").stderr
        == "redacted: nothing\n"
    )
    run("projects", "redact", project, *RULES)
    tried = run("projects", "redact", project, "--test", "-", input="to ada@example.com")
    assert tried.stdout == "to [redacted:email]\n"
    event = json.dumps(EVENT)
    told = json.loads(run_json("projects", "redact", project, "--test", event)["text"])
    assert told["distinct_id"] == "ada@example.com"
    assert told["properties"]["$ai_input"] == "to [redacted:email]"
    none = run_json("projects", "redact", project, "--content", "none", "--test", event)
    assert json.loads(none["text"])["properties"] == {"$ai_model": "m", "n": 1}
    assert none["redacted"] == {"content": 1}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--pattern", "e-mail"], "redaction.patterns.0: no built-in pattern has this name"),
        (["--regex", "staff=("], "redaction.patterns.0.regex (staff): RE2 cannot read it"),
        (["--content", "some"], "redaction.content"),
        (["--pattern", "e-mail", "--test", "x"], "redaction.patterns.0"),
    ],
)
def test_what_cannot_be_carried_out_is_refused(project, options, told):
    assert told in run("projects", "redact", project, *options, code=1).stderr
    assert redaction(project) is None


@pytest.mark.parametrize(
    "options", [["--regex", "staff"], ["--off", *RULES], ["--off", "--test", "x"]]
)
def test_options_that_contradict_each_other_are_wrong_usage(project, options):
    run("projects", "redact", project, *options, code=2)
    assert redaction(project) is None


def test_a_project_that_is_not_there_has_no_rules(project):
    assert run("projects", "redact", "999999", code=1).stderr.startswith("nilometer: ")
