"""`nilometer dead-letters` over a server that really listens."""

import json

import pytest
from typer.testing import CliRunner

from nilometer.access.types import Scope
from nilometer.cli.app import app


@pytest.fixture
def project(world, monkeypatch):
    project = world.project()
    monkeypatch.setenv("NILOMETER_URL", world.url)
    monkeypatch.setenv("NILOMETER_API_KEY", project.key(Scope.OPERATE, Scope.READ))
    return project


def run(project, command, *arguments, code=0):
    words = ["dead-letters", command, "--project", str(project.id), *arguments]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == code, (result.output, result.exception)
    return result


def listed(project, *arguments):
    return json.loads(run(project, "list", "--json", *arguments).stdout)["results"]


def test_dead_letters_are_listed(project):
    letters = [project.dead_letter(reason=reason) for reason in ("map_failed", "rejected")]
    table = run(project, "list").stdout
    assert all(identity in table for identity in letters)
    assert [letter["id"] for letter in listed(project)] == letters[::-1]
    assert [letter["id"] for letter in listed(project, "--reason", "rejected")] == letters[1:]


def test_a_dead_letter_is_shown_with_its_record_made_harmless(project):
    identity = project.dead_letter(payload=b"\x1b[2Jprompt\x00", detail="\x1b[31m")
    shown = run(project, "show", identity).stdout
    assert r"\x1b[2Jprompt\x00" in shown
    assert r"\x1b[31m" in shown
    assert "map_failed" in shown
    assert "\x1b" not in shown


def test_a_record_that_is_no_text_is_shown_in_base64(project):
    identity = project.dead_letter(payload=b"\xff\x1b")
    assert "/xs=" in run(project, "show", identity).stdout


def test_replayed_records_become_events(project):
    letters = [project.dead_letter(), project.dead_letter()]
    assert "Replayed 2 dead letters." in run(project, "replay", *letters).stdout
    project.world.settle()
    for letter in listed(project, "--state", "replayed"):
        assert project.get(f"events/{letter['uuid']}/").status_code == 200


def test_all_open_letters_of_a_reason_can_be_replayed_at_once(project):
    wanted = [project.dead_letter(reason="map_failed") for _ in range(2)]
    other = project.dead_letter(reason="rejected")
    done = run(project, "replay", "--all", "--reason", "map_failed", "--json").stdout
    assert {letter["id"] for letter in json.loads(done)["results"]} == set(wanted)
    assert [letter["id"] for letter in listed(project, "--state", "open")] == [other]


def test_a_discard_keeps_its_reason(project):
    identity = project.dead_letter()
    assert (
        "Discarded 1 dead letter." in run(project, "discard", identity, "--reason", "a test").stdout
    )
    assert [letter["note"] for letter in listed(project)] == ["a test"]
    again = run(project, "discard", identity, "--reason", "again", code=1)
    assert "was discarded" in again.stderr


def test_letters_of_no_project_are_seen_and_discarded_by_a_flag(project):
    identity = project.unowned_dead_letter(headers=b"\xff", payload=b"nobody's")
    mine = project.dead_letter()
    shown = {letter["id"] for letter in listed(project, "--unowned", "--limit", "500")}
    assert identity in shown
    assert mine not in shown
    assert identity not in {letter["id"] for letter in listed(project)}
    assert "nobody's" in run(project, "show", identity, "--unowned").stdout
    assert "only be discarded" in run(project, "replay", identity, "--unowned", code=1).stderr
    run(project, "discard", identity, "--unowned", "--reason", "unreadable")
    (gone,) = [
        letter
        for letter in listed(project, "--unowned", "--state", "discarded", "--limit", "500")
        if letter["id"] == identity
    ]
    assert gone["note"] == "unreadable"


def test_a_letter_that_does_not_exist_is_one_sentence(project):
    result = run(project, "show", "none", code=1)
    assert "there is no such dead letter" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("replay", []),
        ("replay", ["--all", "0f"]),
        ("discard", ["0f"]),
        ("discard", ["--reason", "x"]),
    ],
)
def test_wrong_usage_is_exit_code_2(project, command, arguments):
    run(project, command, *arguments, code=2)
