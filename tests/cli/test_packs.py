"""`nilometer packs` and `nilometer playbook`, the parts that need no server."""

import json

import pytest
from typer.testing import CliRunner

from nilometer.cli.app import app
from nilometer.incidents.packs import built_in

LEAK = {"exceptionType": "KeyLeak", "sourceSystem": "me", "payload": {"key_id": "k"}}


def ran(*words, code=0, given=None):
    result = CliRunner().invoke(app, [str(word) for word in words], input=given)
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def leak(tmp_path):
    file = tmp_path / "leak.json"
    file.write_text(json.dumps(LEAK))
    return file


def test_what_ships_is_listed_and_printed_as_it_is():
    assert ran("packs", "built-in").stdout == "llm-operations\n"
    printed = ran("packs", "built-in", "llm-operations").stdout
    assert printed == built_in.text_of("llm-operations")
    assert "no pack 'none' ships" in ran("packs", "built-in", "none", code=1).stderr


def test_every_problem_of_a_file_is_told_on_its_line(tmp_path):
    text = "format: 1\nname: P\nplaybooks:\n  - name: a\n    steps:\n      - {name: b}\n"
    file = tmp_path / "pack.yaml"
    file.write_text(text)
    told = ran("packs", "validate", file, code=1).stderr.splitlines()
    assert told[0].startswith("name (line 2): ")
    assert told[1].startswith("playbooks.0.steps.0 (line 6): Give exactly one of tool")
    assert "can be imported" in ran("packs", "validate", "-", given="format: 1\nname: p\n").stdout


def test_a_rehearsal_says_which_rules_and_steps_fire_and_why(leak):
    words = ("playbook", "test", "built-in:llm-operations", "--with", leak)
    asked = ran(*words).stdout
    assert "Policy: require_approval, by said-by-a-sender" in asked
    assert "After an approval: The playbook revoke-leaked-key ends" in asked
    said = ran(*words, "--raised-by", "rule").stdout
    assert said == ran(*words, "--raised-by", "rule").stdout
    for line in (
        "Exception KeyLeak from me, about k",
        "Triage: critical, confidence 0.95",
        "  + leak-is-certain: critical: the key is in the hands of somebody else",
        "  - leak-is-suspected: not true: ",
        "Policy: allow, by default: nothing is against it",
        "Playbook: revoke-leaked-key",
        "  1. revoke: tool key_revoke",
        '       key_id = "k"',
        "The playbook revoke-leaked-key ends: it is resolved.",
    ):
        assert line in said


def test_a_rehearsal_is_json_for_machines(leak, tmp_path):
    words = ("playbook", "test", "built-in:llm-operations", "--with", leak, "--format", "json")
    found = json.loads(ran(*words, "--fail", "revoke").stdout)
    assert [(each["step"], each["status"]) for each in found["steps"]] == [
        ("revoke", "failed"),
        ("ask_for_help", "succeeded"),
    ]
    assert found["policy"]["outcome"] == "require_approval"
    capped = json.loads(ran(*words, "--count", "same-thing=10").stdout)
    assert capped["policy"]["rule"] == "rates.same-thing"
    assert capped["steps"] == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "not JSON"),
        ("[]", "must be an object"),
        ("{}", "exception_type"),
        ('{"exception_type": "a", "source_system": "b", "payload": 1}', "payload"),
        ('{"exception_type": "a", "source_system": "b", "occurred_at": "now"}', "occurred_at"),
        ('{"exception_type": "a", "source_system": "b", "occurred_at": "2026-01-01"}', "zone"),
    ],
)
def test_an_exception_that_cannot_be_is_refused(tmp_path, text, told):
    file = tmp_path / "exception.json"
    file.write_text(text)
    result = ran("playbook", "test", "built-in:llm-operations", "--with", file, code=1)
    assert told in result.stderr


def test_a_file_that_is_not_there_and_a_count_that_is_none_are_refused(leak, tmp_path):
    missing = ran("playbook", "test", tmp_path / "none.yaml", "--with", leak, code=1)
    assert "cannot be read" in missing.stderr
    words = ("playbook", "test", "built-in:llm-operations", "--with", leak, "--count")
    assert "NAME=N" in ran(*words, "x", code=2).stderr


def test_the_schema_is_printed_for_an_editor():
    assert json.loads(ran("packs", "schema").stdout)["title"] == "Nilometer domain pack"
