"""`nilometer exceptions` over a server that really listens."""

import json
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from nilometer.access.types import ALL_SCOPES, Scope
from nilometer.cli.app import app
from nilometer.incidents.incident import Status


@pytest.fixture
def project(world, monkeypatch):
    project = world.project()
    monkeypatch.setenv("NILOMETER_URL", world.url)
    monkeypatch.setenv("NILOMETER_API_KEY", project.key(*ALL_SCOPES))
    return project


def run(*words, code=0, **more):
    result = CliRunner().invoke(app, ["exceptions", *words], **more)
    assert result.exit_code == code, (result.output, result.exception)
    return result


def document(*words):
    return json.loads(run(*words, "--json").stdout)


def raised(*words, **more):
    return run("raise", "Failed", "--source", "billing", *words, **more).stdout.strip()


def test_an_exception_is_raised_and_shown_with_its_history(project):
    exception_id = raised("--severity", "high", "--payload", '{"note": "\\u001b[31mred"}')
    table = run("show", exception_id).stdout
    for told in (exception_id, "received", "billing", "ExceptionIngested", r"\u001b[31mred"):
        assert told in table
    found = document("show", exception_id)
    assert (found["statedSeverity"], len(found["events"])) == ("high", 1)


def test_a_payload_comes_from_a_file_or_from_standard_input(project, tmp_path):
    (tmp_path / "sent.json").write_text('{"order": 7}')
    first = raised("--payload", f"@{tmp_path / 'sent.json'}")
    second = raised("--payload", "-", input='{"order": 8}')
    assert [document("show", each)["payload"]["order"] for each in (first, second)] == [7, 8]
    wrong = run("raise", "F", "--source", "s", "--payload", "{", code=1)
    assert "cannot be read" in wrong.stderr


def test_the_same_idempotency_key_raises_nothing_new(project):
    first, again = (raised("--idempotency-key", "order-7") for _ in range(2))
    assert first == again


def test_a_project_key_raises(project, monkeypatch):
    monkeypatch.setenv("NILOMETER_API_KEY", project.key())
    assert raised()
    assert "only capture" in run("list", code=1).stderr


def test_exceptions_are_listed_by_what_they_are(project):
    first = raised("--occurred-at", "2026-01-02T03:04:05Z")
    other = run("raise", "Other", "--source", "erp").stdout.strip()
    listed = document("list")["results"]
    assert [each["exceptionId"] for each in listed] == sorted((first, other), reverse=True)
    assert [each["exceptionId"] for each in document("list", "--type", "Other")["results"]] == [
        other
    ]
    assert first not in run("list", "--source", "erp").stdout
    assert "status" in run("list", "--status", "gone", code=1).stderr


def test_what_happens_is_followed_from_where_it_began(project):
    first, second = raised(), raised()
    run("comment", first, "Looking.")
    lines = run("tail", "--once").stdout.splitlines()
    assert [line.split()[1:4] for line in lines] == [
        [first, "1", "ExceptionIngested"],
        [second, "1", "ExceptionIngested"],
        [first, "2", "CommentAdded"],
    ]
    newest = run("tail", "--once", "--limit", "1", "--json").stdout.splitlines()
    assert [json.loads(line)["exceptionId"] for line in newest] == [max(first, second)]


def test_a_second_look_prints_what_is_new_alone(project, monkeypatch):
    exception_id = raised()
    looks = []

    def sleep(_):
        looks.append(None)
        if len(looks) == 3:
            raise KeyboardInterrupt
        run("comment", exception_id, f"look {len(looks)}")

    # Of this command alone: other threads sleep as well.
    monkeypatch.setattr("nilometer.cli.exceptions.time", SimpleNamespace(sleep=sleep))
    lines = run("tail", "--limit", "0").stdout.splitlines()
    assert [line.split()[2:4] for line in lines] == [["2", "CommentAdded"], ["3", "CommentAdded"]]
    assert all(f"look {number}" in line for number, line in enumerate(lines, 1))


def test_an_exception_is_assigned_and_processed_again(project):
    exception_id = raised()
    assert "ada's" in run("assign", exception_id, "ada").stdout
    assert "nobody's" in run("assign", exception_id, "").stdout
    assert "being processed" in run("reprocess", exception_id, code=1).stderr
    for status in (Status.OPEN, Status.TRIAGED, Status.ESCALATED):
        project.change_exception(exception_id, to=status)
    run("reprocess", exception_id, "--reason", "a new pack")
    assert document("show", exception_id)["run"] == 2


def test_a_step_is_completed_and_an_exception_resolved(project):
    exception_id = raised()
    for status in (Status.OPEN, Status.TRIAGED, Status.IN_PROGRESS, Status.WAITING):
        project.change_exception(exception_id, to=status)
    project.change_exception(exception_id, step="call-the-bank", playbook="p")
    run("complete", exception_id, "call-the-bank", "--failed", "--note", "closed")
    assert document("show", exception_id)["steps"]["call-the-bank"]["status"] == "failed"
    project.change_exception(exception_id, to=Status.ESCALATED)
    run("resolve", exception_id, "--reason", "paid")
    assert document("show", exception_id)["status"] == "resolved"


def test_an_approval_is_decided_by_its_id_or_by_that_of_its_exception(project, monkeypatch):
    first, second, third = (project.approval() for _ in range(3))
    assert first in run("approvals", "--state", "pending").stdout
    pending = document("approvals")["results"]
    about = {each["approvalId"]: each["exceptionId"] for each in pending}
    assert document("approve", first, "--note", "fine")["note"] == "fine"
    run("reject", about[second])
    monkeypatch.setenv("NILOMETER_API_KEY", project.key(Scope.APPROVE))
    run("approve", third)
    monkeypatch.setenv("NILOMETER_API_KEY", project.key(Scope.READ))
    states = {each["approvalId"]: each["state"] for each in document("approvals")["results"]}
    assert states == {first: "approved", second: "rejected", third: "approved"}


def test_what_was_given_up_is_replayed_or_discarded_with_a_reason(project):
    letters = [project.exception_dead_letter() for _ in range(4)]
    table = run("dead-letters").stdout
    assert all(letter in table for letter in letters)
    assert "Replayed 1 " in run("replay", letters[0], "--reason", "up again").stdout
    exception_id = letters[1].rpartition(".")[0]
    assert "Replayed 1 " in run("replay", exception_id, "--reason", "up again").stdout
    discarded = document("discard", letters[2], "--reason", "a test")["results"]
    assert [each["state"] for each in discarded] == ["discarded"]
    assert "Replayed 1 " in run("replay", "--all", "--reason", "up again").stdout
    assert document("dead-letters")["results"] == []
    assert [
        each["letterId"] for each in document("dead-letters", "--state", "discarded")["results"]
    ] == [letters[2]]
    assert run("replay", "--reason", "none named", code=2)
    refused = run("replay", exception_id, "--reason", "up again", code=1)
    assert f"no open dead letter of an exception {exception_id}" in refused.stderr


def test_what_has_something_in_common_is_replayed_or_discarded_together(project):
    kept = project.exception_dead_letter()
    letters = [
        project.exception_dead_letter(project.exception(exception_type="Late")) for _ in "ab"
    ]
    late = ("--type", "Late", "--reason", "up again")
    assert "Would have replayed 2 " in run("replay", *late, "--dry-run").stdout
    assert "Would have replayed 1 " in run("replay", *late, "--dry-run", "--limit", "1").stdout
    assert run("replay", *late, "--limit", "1").stdout == "Replayed 1 dead letter. 1 is left.\n"
    assert run("discard", *late, "--stage", "tool").stdout == "Discarded 0 dead letters.\n"
    [told] = document("discard", *late, "--code", "refused")["results"]
    assert (told["state"], told["letterIds"]) == ("discarded", letters[1:])
    assert [each["letterId"] for each in document("dead-letters")["results"]] == [kept]
    assert run("discard", kept, "--all", "--reason", "both", code=2)
    assert run("discard", kept, "--dry-run", "--reason", "of one", code=2)


def test_however_many_there_are_they_are_decided_about_a_thousand_at_a_time(project, monkeypatch):
    monkeypatch.setattr("nilometer.cli.exception_letters._AT_ONCE", 2)
    letters = [project.exception_dead_letter() for _ in range(5)]
    told = document("replay", "--all", "--reason", "up again")["results"]
    assert [each["letterIds"] for each in told] == [letters[:2], letters[2:4], letters[4:]]
    assert len({each["before"] for each in told}) == 1
