import base64
from dataclasses import replace

import pytest

from nilometer.access.types import Scope
from nilometer.api.routes.dead_letters import DeadLetterDetailAnswer, DeadLettersAnswer

NOBODY = "0197c5a2-6f0e-4cc1-9d4e-4b1f6f3f2f11"


@pytest.fixture
def project(world):
    return world.project()


def ask(project, method, rest, **more):
    return project.world.ask(method, project.path(f"dead_letters/{rest}"), project.operator, **more)


def test_dead_letters_are_listed_newest_first_without_their_records(project):
    letters = [project.dead_letter(reason=reason) for reason in ("a", "b", "a")]
    answer = ask(project, "GET", "", params={"limit": 2}).json()
    DeadLettersAnswer.model_validate(answer, extra="forbid")
    assert [letter["id"] for letter in answer["results"]] == letters[:0:-1]
    rest = project.world.get(answer["next"], project.operator).json()
    assert [letter["id"] for letter in rest["results"]] == letters[:1]
    assert rest["next"] is None
    narrowed = ask(project, "GET", "", params={"reason": "b", "state": "open"}).json()
    assert [letter["id"] for letter in narrowed["results"]] == [letters[1]]
    assert "payload" not in answer["results"][0]


@pytest.mark.parametrize(("name", "value"), [("state", "lost"), ("limit", "0"), ("cursor", "x")])
def test_a_filter_that_cannot_be_is_refused_by_name(project, name, value):
    answer = ask(project, "GET", "", params={name: value})
    assert (answer.status_code, answer.json()["attr"]) == (400, name)


def test_a_dead_letter_is_shown_with_its_record(project):
    identity = project.dead_letter(payload=b"\xff\x00", headers=b'{"v":1}')
    letter = ask(project, "GET", f"{identity}/").json()
    DeadLetterDetailAnswer.model_validate(letter, extra="forbid")
    assert letter["headers"] == {"encoding": "utf-8", "data": '{"v":1}'}
    assert base64.b64decode(letter["payload"]["data"]) == b"\xff\x00"
    assert (letter["reason"], letter["state"], letter["actor"]) == ("map_failed", "open", None)


def test_a_replayed_record_becomes_an_event_and_its_letter_names_who_did_it(project):
    identity = project.dead_letter()
    letter = ask(project, "POST", f"{identity}/replay/").json()
    assert letter["state"] == "replayed"
    assert letter["actor"].startswith("key:")
    project.world.settle()
    assert project.get(f"events/{letter['uuid']}/").status_code == 200
    again = ask(project, "POST", f"{identity}/replay/")
    assert (again.status_code, again.json()["code"]) == (400, "not_open")


def test_a_discarded_letter_keeps_who_and_why(project):
    identity = project.dead_letter()
    letter = ask(project, "POST", f"{identity}/discard/", json={"reason": "a test"}).json()
    assert (letter["state"], letter["note"]) == ("discarded", "a test")
    assert letter["actor"].startswith("key:")


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"{}", b'{"reason":1}', b'{"reason":" "}', b'{"reason":null}', b"\xff"]
    + [b'{"reason":"' + b"x" * size + b'"}' for size in (1001, 20_000, 2_000_000)],
)
def test_a_discard_without_a_reason_is_refused(project, body):
    identity = project.dead_letter()
    answer = ask(project, "POST", f"{identity}/discard/", content=body)
    assert (answer.status_code, answer.json()["type"]) == (400, "validation_error")
    assert ask(project, "GET", f"{identity}/").json()["state"] == "open"


def test_a_body_that_is_too_large_is_refused_before_it_is_all_read(project):
    identity = project.dead_letter()
    body = b'{"reason":"x"' + b" " * 20_000 + b"}"
    answer = ask(project, "POST", f"{identity}/discard/", content=body)
    assert (answer.status_code, answer.json()["detail"]) == (
        400,
        "The body is larger than 16384 bytes.",
    )


@pytest.mark.parametrize("identity", ["x", "%00", "0", NOBODY])
def test_a_letter_that_does_not_exist_is_not_found(project, identity):
    for method, rest in (("GET", ""), ("POST", "replay/"), ("POST", "discard/")):
        answer = ask(project, method, f"{identity}/{rest}", json={"reason": "x"})
        assert answer.status_code == 404


@pytest.mark.parametrize("project_id", [0, 987_654])
def test_letters_of_no_project_are_the_operators_to_see_and_to_decide(project, project_id):
    world = project.world
    identity = project.unowned_dead_letter(project_id, headers=b"\xff", payload=b"x")
    mine = project.dead_letter()

    def unowned(method, rest, **more):
        return world.ask(method, f"/api/dead_letters/{rest}", project.operator, **more)

    before = world.services.dead_letters.open_counts()["map_failed"]
    listed = unowned("GET", "", params={"limit": 500}).json()["results"]
    shown = {letter["id"]: letter["project_id"] for letter in listed}
    assert shown[identity] == project_id
    assert mine not in shown
    assert ask(project, "GET", f"{identity}/").status_code == 404
    assert unowned("GET", f"{mine}/").status_code == 404
    assert unowned("POST", f"{mine}/discard/", json={"reason": "x"}).status_code == 404
    letter = unowned("GET", f"{identity}/").json()
    assert letter["payload"] == {"encoding": "utf-8", "data": "x"}
    refused = unowned("POST", f"{identity}/replay/")
    assert (refused.status_code, refused.json()["code"]) == (400, "not_replayable")
    done = unowned("POST", f"{identity}/discard/", json={"reason": "unreadable"}).json()
    assert (done["state"], done["note"]) == ("discarded", "unreadable")
    assert done["actor"].startswith("key:")
    assert world.services.dead_letters.open_counts()["map_failed"] == before - 1


def test_a_readable_letter_of_no_project_can_be_replayed(project):
    nobodys = type(project)(project.world, 987_655)
    identity = nobodys.unowned_dead_letter(nobodys.id)
    path = f"/api/dead_letters/{identity}/replay/"
    assert project.world.ask("POST", path, project.operator).json()["state"] == "replayed"
    project.world.settle()


def test_letters_of_no_project_come_in_pages(project):
    letters = {project.unowned_dead_letter(reason="paged") for _ in range(3)}
    path, found = "/api/dead_letters/?reason=paged&limit=1", []
    while path:
        page = project.world.get(path, project.operator).json()
        found += [letter["id"] for letter in page["results"]]
        path = page["next"]
    assert len(found) == 3
    assert set(found) == letters


def test_a_reader_may_not_see_records(project):
    identity = project.dead_letter()
    for rest in ("", f"{identity}/"):
        answer = project.world.get(project.path(f"dead_letters/{rest}"), project.reader)
        assert answer.status_code == 403


def test_the_log_and_the_pipeline_tell_how_far_they_are(world, project):
    world.settle()
    project.send()
    state = world.get("/api/log/", project.operator).json()
    assert state["ready"] is True
    assert state["groups"]["store"]["records"] == 1
    assert state["groups"]["store"]["seconds"] >= 0
    assert state["groups"]["store"]["oldest_at"].endswith("Z")
    world.settle()
    assert world.get("/api/log/", project.operator).json()["groups"]["store"]["records"] == 0
    assert set(state["pipeline"]) == {"running", "reason", "detail"}


def test_the_pipeline_can_be_resumed(world, project):
    answer = world.ask("POST", "/api/pipeline/resume/", project.operator)
    assert answer.status_code == 200
    assert "running" in answer.json()


def test_a_process_without_a_pipeline_says_how_one_goes_on(world, project, monkeypatch):
    context = world.app.state.context
    alone = replace(context, services=replace(context.services, pipeline=None))
    monkeypatch.setitem(world.app.state._state, "context", alone)
    answer = world.ask("POST", "/api/pipeline/resume/", project.operator)
    assert answer.status_code == 404
    assert "Restart the workers" in answer.text


def test_operating_needs_its_own_scope(world, project):
    token = project.key(Scope.READ, Scope.WRITE, Scope.ADMIN)
    assert world.ask("POST", "/api/pipeline/resume/", token).status_code == 403
