"""`nilometer keys` and `nilometer projects` work on the data directory, server or none."""

import json
import re
import subprocess
import sys
from contextlib import closing
from importlib.metadata import requires

import pytest
from typer.testing import CliRunner

from nilometer import __version__
from nilometer.access.accounts import Accounts
from nilometer.access.keyring import Keyring
from nilometer.access.types import CaptureMode, KeyKind, Scope, UnknownKey
from nilometer.cli.app import MODULES, SERVER_MODULES, app
from tests.database.migrated import migrated


@pytest.fixture
def data_dir(tmp_path, monkeypatch):
    monkeypatch.setenv("NILOMETER_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("NILOMETER_API_KEY", raising=False)
    return tmp_path


@pytest.fixture
def database(data_dir):
    with closing(migrated(data_dir / "nilometer.db")) as database:
        Accounts(database).bootstrap(None)
        yield database


@pytest.fixture
def keyring(database):
    keyring = Keyring(database, default_retention_days=30, fresh_seconds=0)
    yield keyring
    keyring.close()


def run(*arguments, code=0):
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, (result.output, result.exception)
    return result


def run_json(*arguments):
    return json.loads(run(*arguments, "--json").stdout)


def test_a_created_key_goes_alone_to_stdout_and_works(database, keyring):
    result = run("keys", "create", "--name", "laptop")
    token = result.stdout.strip()
    principal = keyring.authenticate_blocking(token)
    assert (principal.kind, principal.project.project_id) == (KeyKind.PROJECT, 1)
    assert "not shown again" in result.stderr
    assert token not in result.stderr


def test_a_personal_key_gets_its_scopes(database, keyring):
    created = run_json(
        "keys", "create", "--kind", "personal", "--scope", "read", "--scope", "operate"
    )
    assert created["scopes"] == ["operate", "read"]
    principal = keyring.authenticate_blocking(created["token"])
    assert principal.scopes == {Scope.READ, Scope.OPERATE}


def test_a_personal_key_without_scopes_says_which_there_are(database):
    result = run("keys", "create", "--kind", "personal", code=1)
    assert result.stdout == ""
    assert result.stderr.startswith("nilometer: ")
    assert "operate" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_lists_show_masks_and_never_a_token(database):
    token = run("keys", "create", "--name", "laptop").stdout.strip()
    listed = run("keys", "list")
    described = run_json("keys", "list")
    assert [key["name"] for key in described] == ["default", "default", "laptop"]
    assert described[2]["mask"] in listed.stdout
    assert described[2]["id"] in listed.stdout, "piped, nothing is cut"
    assert token not in listed.stdout + json.dumps(described)
    assert "\x1b" not in listed.stdout


def test_lists_can_be_of_one_project(database):
    run("projects", "create", "second")
    run("keys", "create", "--project", "2", "--name", "theirs")
    assert [key["name"] for key in run_json("keys", "list", "--project", "2")] == [
        "default",
        "theirs",
    ]


def test_a_new_project_comes_with_its_key(database, keyring):
    result = run("projects", "create", "second")
    principal = keyring.authenticate_blocking(result.stdout.strip())
    assert (principal.kind, principal.project.project_id) == (KeyKind.PROJECT, 2)
    assert "project 2 (second)" in result.stderr


def test_a_revoked_key_stops_working(database, keyring):
    created = run_json("keys", "create")
    assert "Revoked" in run("keys", "revoke", created["id"]).stdout
    with pytest.raises(UnknownKey):
        keyring.authenticate_blocking(created["token"])
    (listed,) = [key for key in run_json("keys", "list") if key["id"] == created["id"]]
    assert listed["revoked_at"]
    assert "revoked" in run("keys", "list").stdout


def test_an_unknown_id_is_one_line_and_code_1(database):
    result = run("keys", "revoke", "nonsense", code=1)
    assert result.stderr == (
        "nilometer: this is not the id of a key; `nilometer keys list` shows them\n"
    )


def test_without_a_database_it_says_where_it_looked(data_dir):
    for command in (("keys", "list"), ("keys", "create"), ("projects", "list")):
        result = run(*command, code=1)
        assert f"no database in {data_dir}" in result.stderr
    assert list(data_dir.iterdir()) == []


def test_another_data_directory_can_be_named(database, monkeypatch, tmp_path_factory):
    monkeypatch.setenv("NILOMETER_DATA_DIR", str(tmp_path_factory.mktemp("empty")))
    folder = str(database.path.parent)
    assert len(json.loads(run("keys", "list", "--json", "--data-dir", folder).stdout)) == 2


def test_wrong_usage_is_code_2(database):
    run("keys", "create", "--kind", "other", code=2)
    run("keys", "create", "--scope", "fly", code=2)
    run("keys", "creat", code=2)
    run("projects", "set", "1", code=2)
    run("projects", "set", "1", "--drop-id", "a", "--drop-none", code=2)
    run("projects", "set", "1", "--retention", "soon", code=2)
    assert "Did you mean" in run("kees", code=2).stderr


def test_a_project_is_created_and_its_rules_set(database):
    created = run_json("projects", "create", "second")
    assert (created["id"], created["name"], created["config_version"]) == (2, "second", 1)
    changed = run_json(
        "projects",
        "set",
        "2",
        "--capture",
        "over_quota",
        "--drop-id",
        "a",
        "--drop-id",
        "b",
        "--retention",
        "7",
    )
    assert changed["capture"] == CaptureMode.OVER_QUOTA
    assert changed["dropped_distinct_ids"] == ["a", "b"]
    assert (changed["retention_days"], changed["config_version"]) == (7, 2)
    changed = run_json("projects", "set", "2", "--drop-none", "--retention", "default")
    assert changed["dropped_distinct_ids"] == []
    assert (changed["retention_days"], changed["capture"]) == (None, "over_quota")
    assert [project["id"] for project in run_json("projects", "list")] == [1, 2]
    assert "over_quota" in run("projects", "list").stdout
    assert "project 2 (second)" in run("projects", "set", "2", "--capture", "accept").stdout


def test_rules_out_of_bounds_are_one_line_and_code_1(database):
    result = run("projects", "set", "1", "--retention", "0", code=1)
    assert result.stderr == "nilometer: retention is 1 to 36500 days, or the default\n"


def test_a_newer_column_or_no_table_is_no_traceback(data_dir):
    (data_dir / "nilometer.db").write_bytes(b"not a database" * 100)
    result = run("keys", "list", code=1)
    assert "does not answer" in result.stderr
    assert "Traceback" not in result.output


def test_the_version_is_printed():
    assert run("--version").stdout == f"nilometer {__version__}\n"


@pytest.mark.parametrize("command", [(), *((name,) for name in MODULES), ("keys", "create")])
def test_every_command_has_help(command):
    assert "Usage" in run(*command, "--help").stdout


def in_a_new_process(code, *arguments):
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )


def test_the_command_line_loads_nothing_of_the_server():
    ours = set(SERVER_MODULES) - {"zstandard"}  # httpx loads it where it finds it
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom nilometer.cli.app import app\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0\n"
        "assert CliRunner().invoke(app, ['keys', '--help']).exit_code == 0\n"
        "loaded = {name.partition('.')[0] for name in sys.modules}\n"
        f"print(sorted(loaded & {ours!r}))"
    )
    done = in_a_new_process(code)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_the_parts_of_the_server_are_those_of_its_extra():
    asked = [line for line in requires("nilometer") if re.search(r"extra == .server.", line)]
    names = {re.match(r"[\w-]+", line)[0].replace("-", "_") for line in asked}
    imported_as = {"google_re2": "re2", "grpcio": "grpc", "opentelemetry_proto": "opentelemetry"}
    imported_as |= {"pyyaml": "yaml"}
    assert {imported_as.get(name, name) for name in names} == SERVER_MODULES


@pytest.mark.parametrize(
    ("command", "part", "extra"),
    [
        (["config"], "the server part", "server"),
        (["keys", "list"], "the server part", "server"),
        (["projects", "list"], "the server part", "server"),
        (["traces", "ingest", __file__], "what reads trace files", "traces"),
    ],
)
def test_without_the_part_that_it_needs_it_says_how_to_install_it(command, part, extra):
    code = (
        "from importlib.machinery import PathFinder\nfind = PathFinder.find_spec\n"
        f"missing = {sorted(SERVER_MODULES)!r}\n"
        "def absent(name, *rest): return None if name in missing else find(name, *rest)\n"
        "PathFinder.find_spec = absent\n"
        "from nilometer.cli import main\nmain()"
    )
    done = in_a_new_process(code, *command)
    assert done.returncode == 1
    assert done.stderr == (
        f"nilometer: this command needs {part}, which is not installed; "
        f"install it with: pip install 'nilometer[{extra}]'\n"
    )


def test_a_defect_is_not_called_a_missing_part(database, monkeypatch):
    monkeypatch.setitem(sys.modules, "nilometer.access.accounts", None)
    result = CliRunner().invoke(app, ["keys", "list"])
    assert isinstance(result.exception, ModuleNotFoundError)
