"""Organizations, projects and keys over HTTP: what is answered, what it changes, what is told."""

import asyncio
import threading
from contextlib import closing

import pytest

from nilometer.access.deletion import DeletionWorker
from nilometer.access.guessing import BURST, GuessLimiter
from nilometer.access.keyring import Keyring
from nilometer.access.types import ALL_SCOPES, Scope, UnknownKey
from nilometer.clickhouse.erasure import erase_project

# Capture contract, section 6.
ORGANIZATION = {
    "id",
    "name",
    "slug",
    "logo_media_id",
    "created_at",
    "updated_at",
    "membership_level",
    "plugins_access_level",
    "teams",
    "projects",
    "available_product_features",
    "is_member_join_email_enabled",
    "metadata",
    "customer_id",
    "enforce_2fa",
    "members_can_invite",
    "members_can_use_personal_api_keys",
    "allow_publicly_shared_resources",
    "member_count",
    "is_ai_data_processing_approved",
    "default_experiment_stats_method",
    "default_role_id",
}
PROJECT = {
    "id",
    "uuid",
    "organization",
    "project_id",
    "api_token",
    "name",
    "completed_snippet_onboarding",
    "has_completed_onboarding_for",
    "ingested_event",
    "is_demo",
    "timezone",
    "access_control",
}


@pytest.fixture
def home(world):
    """A project of an organization of its own."""
    return world.foreign_project()


@pytest.fixture
def admin(home):
    return home.key(*ALL_SCOPES)


@pytest.fixture
def keyring(world, monkeypatch):
    # A look-up that a busy machine holds up is no database that hangs: memory would answer for it.
    monkeypatch.setattr("nilometer.access.keyring._PATIENCE_SECONDS", 60)
    with closing(Keyring(world.database, default_retention_days=30, fresh_seconds=0)) as keyring:
        yield keyring


@pytest.fixture
def ask(world, admin):
    def ask(method, path, body=None, *, token=admin, status=200, **parameters):
        more = {"json": body} if body is not None else {}
        answer = world.ask(method, path, token, params=parameters or None, **more)
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else None

    return ask


def test_a_key_sees_its_organization_and_no_other(ask, home):
    listed = ask("GET", "/api/organizations/")
    assert (listed["count"], listed["next"], listed["previous"]) == (1, None, None)
    (brief,) = listed["results"]
    current = ask("GET", "/api/organizations/@current/")
    assert current.keys() >= ORGANIZATION
    assert brief.items() <= current.items()
    assert ask("GET", f"/api/organizations/{current['id']}/") == current
    assert [project["id"] for project in current["projects"]] == [home.id]
    assert current["teams"] == current["projects"]
    assert current["membership_level"] == 15


def test_an_organization_is_renamed_and_keeps_its_slug(ask):
    before = ask("GET", "/api/organizations/@current/")
    renamed = ask("PATCH", "/api/organizations/@current/", {"name": " Nile "})
    assert (renamed["name"], renamed["slug"]) == ("Nile", before["slug"])
    assert renamed["updated_at"] > renamed["created_at"]


def test_a_new_organization_comes_with_keys_and_is_its_own(ask, home, keyring, world):
    first = world.project().key(Scope.ADMIN)
    new = {"name": "Delta & Söhne"}
    made = ask("POST", "/api/organizations/", new, status=201, token=first)
    assert made.keys() >= ORGANIZATION
    token = made["personal_key"]["token"]
    assert ask("GET", "/api/organizations/@current/", token=token)["id"] == made["id"]
    (project,) = ask("GET", "/api/projects/", token=token)["results"]
    principal = keyring.authenticate_blocking(made["project_key"]["token"])
    assert principal.project.project_id == project["id"]
    ask("GET", f"/api/organizations/{made['id']}/", status=404)
    ask("GET", f"/api/projects/{project['id']}/", status=404)
    ask("GET", f"/api/projects/{home.id}/", token=token, status=404)
    again = ask("POST", "/api/organizations/", new, status=201, token=first)
    assert again["slug"] != made["slug"]
    told = ask("GET", "/api/organizations/@current/audit_log/", limit=1, token=first)["results"][0]
    assert (told["action"], told["subject"]) == ("organization.create", again["id"])
    theirs = ask("GET", "/api/organizations/@current/audit_log/", token=token)["results"]
    assert {(entry["actor"], entry["address"]) for entry in theirs} == {("operator", None)}


def test_only_the_first_organization_makes_others_and_it_stays(ask, world, admin):
    before = ask("GET", "/api/organizations/@current/audit_log/")
    refused = ask("POST", "/api/organizations/", {"name": "n"}, status=403)
    assert refused["code"] == "permission_denied"
    assert ask("GET", "/api/organizations/@current/audit_log/") == before
    first = world.project().key(*ALL_SCOPES)
    kept = ask("DELETE", "/api/organizations/@current/", token=first, status=400)
    assert (kept["code"], kept["type"]) == ("first_organization", "validation_error")
    assert ask("GET", "/api/log/", token=first)


def test_a_project_has_the_contracts_shape_and_its_key_once(ask, home, keyring):
    made = ask("POST", "/api/projects/", {"name": "staging"}, status=201)
    assert made.keys() >= PROJECT
    assert made["project_id"] == made["id"]
    token = made["api_token"]
    assert keyring.authenticate_blocking(token).project.project_id == made["id"]
    shown = ask("GET", f"/api/projects/{made['id']}/")
    assert shown == {**made, "api_token": None}
    listed = ask("GET", "/api/projects/")
    assert listed == ask("GET", "/api/organizations/@current/projects/")
    assert [project["id"] for project in listed["results"]] == [home.id, made["id"]]
    assert all(project.keys() == PROJECT for project in listed["results"])
    assert all(project["api_token"] is None for project in listed["results"])
    other = ask("POST", "/api/organizations/@current/projects/", {"name": "b"}, status=201)
    assert other["uuid"] != made["uuid"]
    assert ask("GET", "/api/projects/@current/")["id"] == home.id


def test_a_list_comes_in_pages(ask):
    for number in range(4):
        ask("POST", "/api/projects/", {"name": f"p{number}"}, status=201)
    page = ask("GET", "/api/projects/", limit=2)
    seen = page["results"]
    assert (page["count"], page["previous"], len(seen)) == (5, None, 2)
    while page["next"]:
        page = ask("GET", page["next"])
        assert page["count"] == 5
        seen += page["results"]
    assert seen == ask("GET", "/api/projects/")["results"]
    assert len(ask("GET", page["previous"])["results"]) == 2


def test_rules_are_changed_and_counted(ask, home):
    path = home.path()
    before = ask("GET", path)
    changed = ask("PATCH", path, {"capture": "drop", "dropped_distinct_ids": ["b", "a"]})
    assert (changed["capture"], changed["dropped_distinct_ids"]) == ("drop", ["a", "b"])
    assert changed["config_version"] == before["config_version"] + 1
    assert ask("PATCH", path, {"retention_days": 7})["retention_days"] == 7
    last = ask("PATCH", path, {"retention_days": None, "name": "renamed", "capture": "accept"})
    assert (last["retention_days"], last["name"], last["capture"]) == (None, "renamed", "accept")
    assert last["dropped_distinct_ids"] == ["a", "b"]


def test_a_change_of_nothing_changes_nothing(ask, home):
    before = ask("GET", home.path())
    log = ask("GET", "/api/organizations/@current/audit_log/")["count"]
    assert ask("PATCH", home.path(), {}) == before
    assert ask("PATCH", home.path()) == before
    assert ask("GET", "/api/organizations/@current/audit_log/")["count"] == log


@pytest.mark.parametrize(
    ("member", "value"),
    [
        *(("retention_days", value) for value in (True, "30", 1.0, 1.5, [30])),
        *((name, None) for name in ("name", "capture", "dropped_distinct_ids")),
        *(("keep_other_spans", value) for value in (None, 1, "yes")),
        ("capture", "ACCEPT"),
        ("dropped_distinct_ids", "ada"),
        ("name", 1),
    ],
)
def test_a_rule_of_another_type_is_refused_and_changes_nothing(ask, home, member, value):
    before = ask("GET", home.path())
    refused = ask("PATCH", home.path(), {member: value}, status=400)
    assert (refused["type"], refused["attr"]) == ("validation_error", member)
    assert ask("GET", home.path()) == before


def test_the_schema_of_a_change_has_null_where_it_means_something(world):
    schemas = world.http.get("/openapi.json").json()["paths"]["/api/projects/{project_id}/"]
    body = schemas["patch"]["requestBody"]["content"]["application/json"]["schema"]
    nullable = {name for name, each in body["properties"].items() if "null" in str(each)}
    assert nullable == {"retention_days", "redaction", "personal_api_key"}


def test_a_rotated_project_key_ends_and_other_keys_do_not(ask, keyring):
    made = ask("POST", "/api/projects/", {"name": "p"}, status=201)
    other = ask("POST", f"/api/projects/{made['id']}/keys/", {"name": "service"}, status=201)
    rotated = ask("POST", f"/api/projects/{made['id']}/rotate/")
    assert rotated["api_token"] not in (None, made["api_token"])
    keyring.authenticate_blocking(rotated["api_token"])
    keyring.authenticate_blocking(other["token"])
    with pytest.raises(UnknownKey):
        keyring.authenticate_blocking(made["api_token"])


def test_a_key_lives_from_its_making_to_its_revocation(ask, home, keyring, world):
    path = home.path("keys/")
    made = ask("POST", path, {"kind": "personal", "name": "n", "scopes": ["read"]}, status=201)
    assert keyring.authenticate_blocking(made["token"]).scopes == {Scope.READ}
    one = f"{path}{made['id']}/"
    shown = ask("GET", one)
    assert (shown["mask"], "token" in shown) == (made["mask"], False)
    assert ask("PATCH", one, {"name": "m"})["name"] == "m"
    rotated = ask("POST", f"{one}rotate/")
    assert (rotated["id"], rotated["scopes"]) == (made["id"], ["read"])
    with pytest.raises(UnknownKey):
        keyring.authenticate_blocking(made["token"])
    assert keyring.authenticate_blocking(rotated["token"]).key_id == made["id"]
    assert ask("DELETE", one, status=204) is None
    with pytest.raises(UnknownKey):
        keyring.authenticate_blocking(rotated["token"])
    assert ask("GET", one)["revoked_at"]
    assert ask("POST", f"{one}rotate/", status=400)["code"] == "revoked"
    ask("DELETE", one, status=204)
    assert made["id"] in [key["id"] for key in ask("GET", path)["results"]]
    assert rotated["token"] not in str(ask("GET", path))


def test_a_key_is_not_found_under_another_project(ask, home):
    other = ask("POST", "/api/projects/", {"name": "other"}, status=201)["id"]
    key = ask("POST", home.path("keys/"), {"name": "n"}, status=201)["id"]
    for method, rest, body in (
        ("GET", "", None),
        ("PATCH", "", {"name": "x"}),
        ("POST", "rotate/", None),
        ("DELETE", "", None),
    ):
        theirs = ask(method, f"/api/projects/{other}/keys/{key}/{rest}", body, status=404)
        none = f"/api/projects/{other}/keys/00000000-0000-4000-8000-000000000000/{rest}"
        assert ask(method, none, body, status=404) == theirs
    assert ask("GET", home.path(f"keys/{key}/"))["revoked_at"] is None


@pytest.mark.parametrize(
    ("body", "attr"),
    [
        ({}, "name"),
        ({"name": 1}, "name"),
        ({"name": ""}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": "a\x1b[2J"}, "name"),
        ({"name": "n", "naem": "n"}, "naem"),
        ([], None),
    ],
)
@pytest.mark.parametrize("path", ["/api/organizations/", "/api/projects/"])
def test_a_body_that_cannot_be_is_refused_by_its_member(ask, world, path, body, attr):
    first = world.project().key(Scope.ADMIN)
    refused = ask("POST", path, body, token=first, status=400)
    assert (refused["type"], refused["attr"]) == ("validation_error", attr)
    assert "\x1b" not in refused["detail"]


@pytest.mark.parametrize(
    ("body", "attr"),
    [
        ({"name": "n", "kind": "root"}, "kind"),
        ({"name": "n", "kind": "personal"}, "scopes"),
        ({"name": "n", "kind": "personal", "scopes": ["fly"]}, "scopes.0"),
        ({"name": "n", "scopes": ["admin"]}, "scopes"),
        ({"name": "n", "kind": None}, "kind"),
        ({"name": "n", "scopes": None}, "scopes"),
        ({"name": None}, "name"),
    ],
)
def test_a_key_that_cannot_be_is_refused(ask, home, body, attr):
    assert ask("POST", home.path("keys/"), body, status=400)["attr"] == attr


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[" * 100_000, b'{"name":"' + b"x" * 2_200_000])
def test_a_body_that_is_no_json_or_too_large_is_refused(world, admin, body):
    answer = world.ask("POST", "/api/projects/", admin, content=body)
    assert answer.status_code == 400
    assert len(answer.content) < 500


def test_a_reader_lists_and_changes_nothing(ask, home):
    reader = home.key(Scope.READ)
    for path in ("/api/organizations/", "/api/projects/", home.path(), home.path("keys/")):
        ask("GET", path, token=reader)
    assert ask("GET", "/api/organizations/@current/", token=reader)["membership_level"] == 1
    ask("POST", "/api/projects/", {"name": "n"}, token=reader, status=403)
    ask("GET", "/api/organizations/@current/audit_log/", token=reader, status=403)


def test_the_audit_log_tells_who_and_from_where(ask, home, world, admin):
    key_id = world.services.keyring.authenticate_blocking(admin).key_id
    made = ask("POST", "/api/projects/", {"name": "told"}, status=201)
    ask("DELETE", f"/api/projects/{made['id']}/", status=202)
    page = ask("GET", "/api/organizations/@current/audit_log/", limit=2)
    assert [entry["action"] for entry in page["results"]] == ["project.delete", "key.create"]
    first = ask("GET", page["next"])["results"][0]
    assert first["action"] == "project.create"
    assert (first["actor"], first["address"]) == (f"key:{key_id}", "127.0.0.1")
    assert (first["project_id"], first["detail"]) == (made["id"], {"name": "told"})
    assert made["api_token"] not in str(ask("GET", "/api/organizations/@current/audit_log/"))


def test_a_deleted_project_is_gone_with_all_it_had_and_late_records_are_dropped(
    ask, world, home, keyring
):
    made = ask("POST", "/api/projects/", {"name": "doomed"}, status=201)
    doomed = type(home)(world, made["id"])
    doomed.store({"$ai_trace_id": "t"}, blobs={"$ai_input": ("text/plain", b"secret" * 100)})
    doomed.dead_letter()
    home.store({"$ai_trace_id": "t"})
    path = doomed.path()

    deletion = ask("DELETE", path, status=202)
    assert (deletion["project_id"], deletion["state"]) == (doomed.id, "pending")
    ask("GET", path, status=404)
    ask("DELETE", path, status=404)
    ask("GET", doomed.path("events/"), status=404)
    with pytest.raises(UnknownKey):
        keyring.authenticate_blocking(made["api_token"])

    doomed.send()  # accepted before, still in the log
    world.settle()
    services = world.services
    worker = DeletionWorker(
        world.database,
        settle=lambda: None,
        erase={
            "rows": lambda project, stop: erase_project(services.store, project, stop),
            "blobs": lambda project, _: sum(services.blobs.erase_project(project)),
            "dead_letters": lambda project, _: services.dead_letters.delete_project(project),
        },
    )
    worker.run_once()
    done = ask("GET", doomed.path("deletion/"))
    assert (done["state"], done["last_error"]) == ("deleted", None)
    assert done["deleted"] == {"rows": 3, "blobs": 1, "dead_letters": 1, "keys": 1}
    for table in ("events", "calls", "event_ids"):
        rows = services.store.query(f"SELECT count() FROM {table} WHERE project_id = {doomed.id}")
        assert rows.rows == [(0,)]
    assert asyncio.run(services.blobs.delete_project(doomed.id)) == 0
    assert len(world.get(home.path("events/"), home.reader).json()["results"]) == 1
    ask("GET", home.path("deletion/"), status=404)


def test_a_deletion_is_seen_by_its_organization_only(ask, world, home):
    made = ask("POST", "/api/projects/", {"name": "doomed"}, status=201)["id"]
    ask("DELETE", f"/api/projects/{made}/", status=202)
    stranger = world.foreign_project().key(Scope.READ)
    theirs = ask("GET", f"/api/projects/{made}/deletion/", token=stranger, status=404)
    for none in (987654321, 2**31, 10**17, "9" * 40):
        assert ask("GET", f"/api/projects/{none}/deletion/", token=stranger, status=404) == theirs


def test_a_keys_own_project_is_not_being_deleted(ask, home):
    said = [
        ask("GET", f"/api/projects/{each}/deletion/", status=404) for each in (home.id, "@current")
    ]
    assert said[0]["detail"] == "This project is not being deleted."
    assert said[0] == said[1]


def test_deleting_an_organization_ends_the_key_that_asked(ask, home, keyring, admin):
    second = ask("POST", "/api/projects/", {"name": "second"}, status=201)["id"]
    deleted = ask("DELETE", "/api/organizations/@current/", status=202)
    assert [each["project_id"] for each in deleted["deletions"]] == [home.id, second]
    with pytest.raises(UnknownKey):
        keyring.authenticate_blocking(admin)


def test_a_guesser_gets_429_and_a_client_that_was_there_does_not(world, monkeypatch):
    project = world.project()
    path = project.path("events/")
    monkeypatch.setattr(world.services.keyring, "_guesses", GuessLimiter(clock=lambda: 0))
    assert world.get(path, project.reader).status_code == 200
    statuses = [world.get(path, f"guess-{number}").status_code for number in range(BURST + 20)]
    assert statuses == [401] * BURST + [429] * 20
    throttled = world.get(path, "yet another")
    assert throttled.status_code == 429
    assert throttled.json()["type"] == "throttled_error"
    assert int(throttled.headers["Retry-After"]) >= 1
    assert world.get(path, project.reader).status_code == 200
    assert world.get(path, "guess-0").status_code == 401


def test_projects_made_at_once_are_all_made(world, ask, home):
    threads = [
        threading.Thread(target=lambda: ask("POST", "/api/projects/", {"name": "same"}, status=201))
        for _ in range(10)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
    ids = [project["id"] for project in ask("GET", "/api/projects/")["results"]]
    assert len(set(ids)) == 11
