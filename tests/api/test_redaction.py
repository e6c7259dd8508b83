"""Redaction rules over the API: strict, set by who may, and never repeated in the audit log."""

from contextlib import closing

import pytest

from nilometer.access.keyring import Keyring
from nilometer.access.types import ALL_SCOPES, Scope

RULES = {
    "patterns": ["email", {"name": "staff", "regex": "Ada|Grace"}],
    "keys": ["password"],
    "content": "keep",
}
AUDIT = "/api/organizations/@current/audit_log/"


@pytest.fixture
def home(world):
    return world.foreign_project()


@pytest.fixture
def admin(home):
    return home.key(*ALL_SCOPES)


@pytest.fixture
def ask(world, admin):
    def ask(method, path, body=None, *, token=admin, status=200):
        headers = {"Authorization": f"Bearer {token}"}
        answer = world.http.request(method, path, json=body, headers=headers)
        assert answer.status_code == status, answer.text
        return answer.json()

    return ask


def test_rules_are_set_shown_and_removed(ask, home, world):
    path = home.path()
    before = ask("GET", path)
    assert before["redaction"] is None
    changed = ask("PATCH", path, {"redaction": RULES})
    assert changed["redaction"] == RULES
    assert changed["config_version"] == before["config_version"] + 1
    assert ask("PATCH", path, {"name": "renamed"})["redaction"] == RULES
    with closing(Keyring(world.database, default_retention_days=30)) as keyring:
        rules = keyring.authenticate_blocking(home.key(Scope.CAPTURE)).project.redaction
    assert rules.names == ("email", "staff", "key:password")
    assert ask("PATCH", path, {"redaction": {"keys": []}})["redaction"] is None
    ask("PATCH", path, {"redaction": {"content": "none"}})
    assert ask("PATCH", path, {"redaction": None})["redaction"] is None


@pytest.mark.parametrize(
    ("rules", "attr"),
    [
        ("email", "redaction"),
        (["email"], "redaction"),
        ({"patern": []}, "redaction"),
        ({"patterns": ["email", "e-mail"]}, "redaction.patterns.1"),
        ({"patterns": [{"name": "staff", "regex": "(?<=x)y"}]}, "redaction.patterns.0.regex"),
        ({"patterns": [], "keys": ["a", "b", "A"]}, "redaction.keys.2"),
        ({"content": "most"}, "redaction.content"),
    ],
)
def test_rules_that_cannot_be_carried_out_are_refused_and_change_nothing(ask, home, rules, attr):
    before = ask("PATCH", home.path(), {"redaction": RULES})
    refused = ask("PATCH", home.path(), {"redaction": rules}, status=400)
    assert (refused["type"], refused["attr"]) == ("validation_error", attr)
    assert attr in refused["detail"] or attr == "redaction"
    assert ask("GET", home.path()) == before


def test_the_audit_log_has_the_names_of_rules_and_no_pattern(ask, home):
    ask("PATCH", home.path(), {"redaction": RULES})
    ask("PATCH", home.path(), {"redaction": None})
    removed, set_, *_ = ask("GET", AUDIT)["results"]
    names = ["email", "staff", "key:password"]
    assert (set_["action"], set_["detail"]) == ("project.change", {"redaction": [[], names]})
    assert removed["detail"] == {"redaction": [names, []]}
    assert "Grace" not in str(ask("GET", AUDIT))


def test_only_who_may_change_a_project_sets_its_rules(ask, home, world):
    others = sorted(ALL_SCOPES - {Scope.ADMIN})
    token = home.key(*others)
    ask("PATCH", home.path(), {"redaction": RULES}, token=token, status=403)
    stranger = world.foreign_project().key(*ALL_SCOPES)
    ask("PATCH", home.path(), {"redaction": RULES}, token=stranger, status=404)
    assert ask("GET", home.path())["redaction"] is None
