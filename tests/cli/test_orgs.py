"""`nilometer orgs`, `projects` and `keys` do the same through a server and in a data directory."""

import json
import os
from contextlib import closing

import pytest
from typer.testing import CliRunner

from nilometer.access.accounts import Accounts
from nilometer.access.keyring import Keyring
from nilometer.access.types import ALL_SCOPES, KeyKind, Scope, UnknownKey
from nilometer.cli.app import app
from tests.database.migrated import migrated


@pytest.fixture(params=["server", "data directory"])
def keyring(request, tmp_path, monkeypatch):
    """A key ring over what the commands act on, which is one organization with one project."""
    # A look-up that a busy machine holds up is no database that hangs: memory would answer for it.
    monkeypatch.setattr("nilometer.access.keyring._PATIENCE_SECONDS", 60)
    for name in ("NILOMETER_API_KEY", "NILOMETER_URL"):
        monkeypatch.delenv(name, raising=False)
    if request.param == "server":
        world = request.getfixturevalue("world")
        project = world.foreign_project()
        monkeypatch.setenv("NILOMETER_URL", world.url)
        monkeypatch.setenv("NILOMETER_API_KEY", project.key(*ALL_SCOPES))
        database = world.database
    else:
        monkeypatch.setenv("NILOMETER_DATA_DIR", str(tmp_path))
        database = migrated(tmp_path / "nilometer.db")
        Accounts(database).bootstrap(None)
    with closing(Keyring(database, default_retention_days=30, fresh_seconds=0)) as keyring:
        yield keyring
    if request.param != "server":
        database.close()


def run(*arguments, code=0, **more):
    result = CliRunner().invoke(app, list(arguments), **more)
    assert result.exit_code == code, (result.output, result.exception)
    return result


def run_json(*arguments):
    return json.loads(run(*arguments, "--json").stdout)


@pytest.fixture
def first(request, keyring, monkeypatch):
    """Act as an admin of the deployment's first organization, where the way has a key."""
    if "server" in request.node.name:
        project = request.getfixturevalue("world").project()
        monkeypatch.setenv("NILOMETER_API_KEY", project.key(*ALL_SCOPES))


def test_an_organization_is_made_renamed_and_listed(keyring, first):
    made = run("orgs", "create", "Delta").stdout.split()
    kinds = [keyring.authenticate_blocking(token).kind for token in made]
    assert kinds == [KeyKind.PERSONAL, KeyKind.PROJECT]
    assert run_json("orgs", "create", "Delta")["personal_key"]["token"] not in made
    assert "Upper Nile" in run("orgs", "rename", "@current", "Upper Nile").stdout
    assert run_json("orgs", "list")[0]["name"] == "Upper Nile"
    assert "Upper Nile" in run("orgs", "list").stdout


def test_a_project_goes_through_its_life(keyring):
    token = run("projects", "create", "staging").stdout.strip()
    project = str(keyring.authenticate_blocking(token).project.project_id)
    assert "production" in run("projects", "rename", project, "production").stdout
    rules = run_json("projects", "set", project, "--drop-id", "a", "--retention", "7")
    assert (rules["dropped_distinct_ids"], rules["retention_days"]) == (["a"], 7)
    rules = run_json("projects", "set", project, "--drop-none", "--retention", "default")
    assert (rules["dropped_distinct_ids"], rules["retention_days"]) == ([], None)
    assert rules["name"] == "production"
    assert rules["keep_other_spans"] is True
    assert run_json("projects", "set", project, "--no-other-spans")["keep_other_spans"] is False
    assert keyring.authenticate_blocking(token).project.keep_other_spans is False
    assert run_json("projects", "set", project, "--other-spans")["keep_other_spans"] is True
    assert int(project) in [each["id"] for each in run_json("projects", "list")]
    rotated = run("projects", "rotate", project).stdout.strip()
    keyring.authenticate_blocking(rotated)
    with pytest.raises(UnknownKey):
        keyring.authenticate_blocking(token)
    assert "pending" in run("projects", "delete", project, "--yes").stdout
    with pytest.raises(UnknownKey):
        keyring.authenticate_blocking(rotated)
    assert run_json("projects", "deletion", project)["state"] == "pending"
    assert int(project) not in [each["id"] for each in run_json("projects", "list")]
    assert run("projects", "rename", project, "back", code=1).stderr.startswith("nilometer: ")


def test_nothing_is_deleted_without_a_yes(keyring):
    project = str(run_json("projects", "create", "kept")["id"])
    run("projects", "delete", project, input="n\n", code=1)
    run("orgs", "delete", "@current", input="", code=1)
    assert int(project) in [each["id"] for each in run_json("projects", "list")]


def test_a_key_goes_through_its_life(keyring):
    project = str(run_json("projects", "list")[0]["id"])
    made = run_json("keys", "create", "--kind", "personal", "--scope", "read")
    assert str(made["project_id"]) == project, "by default it is the key's own, or the oldest"
    assert keyring.authenticate_blocking(made["token"]).scopes == {Scope.READ}
    assert "laptop" in run("keys", "rename", made["id"], "laptop").stdout
    rotated = run("keys", "rotate", made["id"]).stdout.strip()
    with pytest.raises(UnknownKey):
        keyring.authenticate_blocking(made["token"])
    assert keyring.authenticate_blocking(rotated).key_id == made["id"]
    run("keys", "revoke", made["id"])
    with pytest.raises(UnknownKey):
        keyring.authenticate_blocking(rotated)
    listed = {key["id"]: key for key in run_json("keys", "list", "--project", project)}
    assert listed[made["id"]]["revoked_at"]
    assert set(listed) <= {key["id"] for key in run_json("keys", "list")}
    assert rotated not in run("keys", "list").stdout
    unknown = run("keys", "revoke", "nonsense", code=1)
    assert "`nilometer keys list` shows them" in unknown.stderr


def test_the_audit_log_tells_what_the_commands_did(keyring):
    run("orgs", "rename", "@current", "Told")
    (entry,) = run_json("orgs", "audit", "--limit", "1")
    assert (entry["action"], entry["detail"]["name"][1]) == ("organization.rename", "Told")
    assert entry["actor"].partition(":")[0] in ("key", "operator")
    assert entry["address"]
    shown = run("orgs", "audit", "--limit", "1").stdout
    assert "-> Told" in shown


def test_an_organization_is_deleted_with_its_projects(keyring, first, monkeypatch):
    made = run_json("orgs", "create", "doomed")
    organization, token = made["id"], made["personal_key"]["token"]
    if "NILOMETER_API_KEY" in os.environ:
        monkeypatch.setenv("NILOMETER_API_KEY", token)
        organization = "@current"
    of_it = run("projects", "create", "with it", "--org", organization).stdout.strip()
    assert "Deleted" in run("orgs", "delete", organization, "--yes").stdout
    for ended in (token, of_it):
        with pytest.raises(UnknownKey):
            keyring.authenticate_blocking(ended)


def test_the_first_organization_is_not_deleted(keyring, first):
    refused = run("orgs", "delete", "@current", "--yes", code=1)
    assert "the first organization operates this deployment" in refused.stderr
    assert run_json("projects", "list")


def test_a_project_is_made_in_the_current_organization(keyring):
    run("projects", "create", "here", "--org", "@current")
    assert "here" in {each["name"] for each in run_json("projects", "list")}


def test_keys_of_no_project_are_not_found(keyring):
    assert "project" in run("keys", "list", "--project", "999999999", code=1).stderr.lower()
    assert "project" in run("keys", "create", "--project", "999999999", code=1).stderr.lower()
    run("keys", "create", "--project", "one", code=2)
    run("keys", "create", "--project", "../1", code=2)


def test_a_data_directory_goes_before_a_key(tmp_path, monkeypatch):
    monkeypatch.setenv("NILOMETER_API_KEY", "a key of another server")
    with closing(migrated(tmp_path / "nilometer.db")) as database:
        Accounts(database).bootstrap(None)
        listed = run("orgs", "list", "--json", "--data-dir", str(tmp_path)).stdout
    assert [each["slug"] for each in json.loads(listed)] == ["default"]
