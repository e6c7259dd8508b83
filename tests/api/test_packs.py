"""Packs over HTTP: drafts, what is wrong with one, activation, and the active playbooks."""

import json

import pytest

from nilometer.access.types import Scope
from tests.api.test_access import ask

ROUTE = "/api/projects/{project_id}/packs"


@pytest.fixture
def project(world):
    return world.project()


def post(world, project, path, body=None, scope=Scope.WRITE, **names):
    route = f"POST {ROUTE}{path}"
    return ask(world, route, project.key(scope), project.id, names, json=body or {})


def get(world, project, path, **names):
    return ask(world, f"GET {path}", project.key(Scope.READ), project.id, names)


def test_a_pack_comes_as_an_object_a_text_or_by_the_name_of_one_that_ships(world, project):
    for body, name, version in (
        ({"pack": {"format": 1, "name": "own"}}, "own", 1),
        ({"text": "format: 1\nname: own\ndomain: d\n"}, "own", 2),
        ({"text": '{"format": 1, "name": "own", "domain": "d"}'}, "own", 2),
        ({"built_in": "llm-operations"}, "llm-operations", 1),
    ):
        answer = post(world, project, "", body)
        assert answer.status_code == 201, answer.text
        added = answer.json()
        assert (added["name"], added["version"], added["state"]) == (name, version, "draft")
    listed = get(world, project, ROUTE).json()["results"]
    assert [(each["name"], each["version"]) for each in listed] == [
        ("llm-operations", 1),
        ("own", 2),
        ("own", 1),
    ]
    assert "document" not in listed[0]
    whole = get(world, project, f"{ROUTE}/{{pack}}/{{version}}", pack="own", version="1").json()
    assert whole["document"] == {"format": 1, "name": "own"}


def test_what_is_wrong_is_told_at_once_with_the_lines(world, project):
    text = "format: 1\nname: own\ntriage:\n  rules:\n    - {name: a, when: x, severity: b}\n"
    checked = post(world, project, "/validate", {"text": text}, Scope.READ).json()
    refused = post(world, project, "", {"text": text})
    assert refused.status_code == 400
    assert refused.json()["code"] == "invalid_pack"
    assert checked["problems"] == refused.json()["problems"]
    assert [(each["path"], each["line"]) for each in checked["problems"]] == [
        ("triage.rules.0.when", 5),
        ("triage.rules.0.severity", 5),
    ]
    assert get(world, project, ROUTE).json()["results"] == []
    fine = post(world, project, "/validate", {"built_in": "llm-operations"}, Scope.READ).json()
    assert fine == {"valid": True, "name": "llm-operations", "problems": []}


def test_an_object_may_be_as_long_as_a_text_and_no_longer(world, project):
    whole = {"format": 1, "name": "own", "x": "a" * 256 * 1024}
    for body in ({"pack": whole}, {"text": json.dumps(whole)}):
        refused = post(world, project, "", body)
        assert (refused.status_code, refused.json()["code"]) == (400, "invalid_pack")
        assert "at most 262,144 are taken" in refused.json()["detail"]
    checked = post(world, project, "/validate", {"pack": whole}, Scope.READ).json()
    assert "at most 262,144" in checked["problems"][0]["detail"]


@pytest.mark.parametrize(
    "body", [{}, {"text": "a", "built_in": "b"}, {"pack": []}, {"text": None}, {"nope": 1}]
)
def test_a_body_without_one_pack_is_refused(world, project, body):
    assert post(world, project, "", body).status_code == 400


def test_the_playbooks_of_active_packs_are_listed_in_the_order_of_choice(world, project):
    post(world, project, "", {"built_in": "llm-operations"})
    path = "/api/projects/{project_id}/playbooks"
    assert get(world, project, path).json()["results"] == []
    version = {"pack": "llm-operations", "version": "1"}
    turned = post(world, project, "/{pack}/{version}/activate", None, Scope.ADMIN, **version)
    assert turned.json()["state"] == "active"
    listed = get(world, project, path).json()["results"]
    assert listed[0]["name"] == "stop-runaway-spend"
    assert listed[0]["tools"][0] == "budget_hard_stop"
    assert listed[0]["steps"][0] == {"name": "hard_stop", "action": "tool"}
    ended = post(world, project, "/{pack}/{version}/deactivate", None, Scope.ADMIN, **version)
    assert ended.json()["state"] == "deprecated"
    assert get(world, project, path).json()["results"] == []


@pytest.mark.parametrize("version", ["0", "01", "x", "-1", "99999999999", "2147483648", "7"])
def test_a_version_that_is_not_there_is_not_found(world, project, version):
    post(world, project, "", {"pack": {"format": 1, "name": "own"}})
    names = {"pack": "own", "version": version}
    for path in ("activate", "deactivate"):
        answer = post(world, project, f"/{{pack}}/{{version}}/{path}", None, Scope.ADMIN, **names)
        assert answer.status_code == 404
    assert get(world, project, f"{ROUTE}/{{pack}}/{{version}}", **names).status_code == 404


def test_a_name_with_any_characters_is_not_found(world, project):
    for name in ("%2E%2E", "%00", "a%2Fb", "x" * 300, "%F0%9F%8C%8A"):
        assert get(world, project, f"{ROUTE}/{{pack}}", pack=name).status_code == 404
