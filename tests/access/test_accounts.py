"""Accounts: made once, changed in one transaction, and bounded."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from nilometer.access.bounds import checked_ids, checked_name
from nilometer.access.keyring import Keyring
from nilometer.access.types import ALL_SCOPES, CaptureMode, KeyKind, Scope, UnknownKey
from nilometer.database.fence import EVERY_ROW
from nilometer.errors import InvalidInput, NotFound
from tests.database.reaching import url_of

NOBODY = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def keyring(database):
    keyring = Keyring(database, default_retention_days=30, fresh_seconds=0)
    yield keyring
    keyring.close()


def rows(database, table):
    with database.read(EVERY_ROW) as session:
        return session.scalar(text(f"select count(*) from {table}"))


def test_the_first_start_makes_project_1_and_two_keys(accounts, keyring):
    issued = accounts.bootstrap(None)
    assert issued.project_id == 1
    assert issued.to_print
    project_key = keyring.authenticate_blocking(issued.project_key.token)
    assert (project_key.kind, project_key.project.project_id) == (KeyKind.PROJECT, 1)
    assert project_key.scopes == {Scope.CAPTURE}
    personal_key = keyring.authenticate_blocking(issued.personal_key.token)
    assert (personal_key.kind, personal_key.scopes) == (KeyKind.PERSONAL, ALL_SCOPES)
    assert personal_key.organization_id == project_key.organization_id == issued.organization_id


def test_later_starts_make_nothing(accounts, database):
    assert accounts.bootstrap(None) is not None
    assert accounts.bootstrap(None) is None
    assert accounts.bootstrap("another-key-of-automation") is None
    counts = {table: rows(database, table) for table in ("organizations", "projects", "api_keys")}
    assert counts == {"organizations": 1, "projects": 1, "api_keys": 2}


def test_a_given_personal_key_works_and_is_not_printed(accounts, keyring):
    issued = accounts.bootstrap("for-automation-0123456789")
    assert not issued.to_print
    assert keyring.authenticate_blocking("for-automation-0123456789").scopes == ALL_SCOPES
    assert "automation" not in str(accounts.keys.list(None))


def test_processes_that_start_at_once_bootstrap_once(database):
    code = (
        "import sys; from nilometer.access.accounts import Accounts;"
        "from nilometer.database.engine import Database;"
        "accounts = Accounts(Database(sys.argv[1])); print('ready', flush=True);"
        "sys.stdin.read(); print(accounts.bootstrap(None) is not None)"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, url_of(database)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.close()
        process.stdin = None
    said = sorted(process.communicate(timeout=60)[0].strip() for process in processes)
    assert said == ["False", "True"]
    assert rows(database, "organizations") == 1


def test_threads_that_start_at_once_bootstrap_once(accounts):
    with ThreadPoolExecutor(16) as threads:
        made = list(threads.map(lambda _: accounts.bootstrap(None), range(16)))
    assert sum(issued is not None for issued in made) == 1


def test_a_bootstrap_that_fails_leaves_nothing(accounts, database, monkeypatch):
    monkeypatch.setattr("nilometer.access.tokens.mask", lambda token: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        accounts.bootstrap(None)
    assert rows(database, "organizations") == rows(database, "projects") == 0


def test_fifty_threads_create_fifty_keys_that_all_work(accounts, issued, keyring):
    def create(number):
        return accounts.keys.create(
            kind=KeyKind.PROJECT, project_id=1, name=f"key {number}", scopes=()
        )

    with ThreadPoolExecutor(50) as threads:
        keys = list(threads.map(create, range(50)))
    assert len({key.token for key in keys}) == len({key.key_id for key in keys}) == 50
    assert {keyring.authenticate_blocking(key.token).key_id for key in keys} == {
        key.key_id for key in keys
    }
    assert len(accounts.keys.list(1)) == 52


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_no_token_reaches_the_disk_or_a_repr(accounts, issued, database):
    made = accounts.keys.create(kind=KeyKind.PERSONAL, project_id=1, name="n", scopes=[Scope.READ])
    assert made.token not in repr(made)
    assert issued.personal_key.token not in repr(issued)
    files = b"".join(path.read_bytes() for path in database.path.parent.iterdir())
    assert made.mask.encode() in files, "the files that are searched hold this key"
    assert made.token.encode() not in files


def test_a_personal_key_has_the_scopes_it_was_given(accounts, issued, keyring):
    made = accounts.keys.create(
        kind=KeyKind.PERSONAL, project_id=1, name="reader", scopes=[Scope.READ, Scope.OPERATE]
    )
    principal = keyring.authenticate_blocking(made.token)
    assert principal.scopes == {Scope.READ, Scope.OPERATE}


def test_a_personal_key_needs_a_scope_and_a_project_key_takes_no_other(accounts, issued):
    with pytest.raises(InvalidInput, match="approve, capture, operate") as caught:
        accounts.keys.create(kind=KeyKind.PERSONAL, project_id=1, name="n", scopes=())
    assert caught.value.attr == "scopes"
    with pytest.raises(InvalidInput, match="captures, nothing else"):
        accounts.keys.create(kind=KeyKind.PROJECT, project_id=1, name="n", scopes=[Scope.READ])


@pytest.mark.parametrize("project_id", [2, 0, -1, 2**31, 2**63, 2**200])
def test_a_key_of_no_project_is_refused(accounts, issued, project_id):
    with pytest.raises(NotFound, match="no project"):
        accounts.keys.create(kind=KeyKind.PROJECT, project_id=project_id, name="n", scopes=())
    with pytest.raises(NotFound, match="no project"):
        accounts.projects.change(project_id, mode=CaptureMode.DROP)


@pytest.mark.parametrize("name", ["", " ", "x" * 101, "a\x1b[2J", "two\nlines"])
def test_a_name_that_cannot_be_shown_is_refused(accounts, issued, name):
    with pytest.raises(InvalidInput) as caught:
        accounts.create_project(name)
    assert caught.value.attr == "name"


@given(st.text(st.characters(categories=["L", "N", "P", "Cc", "Cs", "Zs", "Cf"])))
def test_a_name_is_refused_or_can_be_shown_in_a_terminal(name):
    try:
        kept = checked_name(name)
    except InvalidInput:
        return
    assert kept == name.strip()
    assert kept.isprintable()
    assert 1 <= len(kept) <= 100


def test_a_revoked_key_stays_listed_with_its_first_time(accounts, issued):
    first = accounts.keys.revoke(issued.project_key.key_id)
    assert first.revoked_at is not None
    assert accounts.keys.revoke(issued.project_key.key_id.upper()) == first
    assert first in accounts.keys.list(1)


@pytest.mark.parametrize("key_id", [NOBODY, "", "1", "'; drop table api_keys; --"])
def test_an_unknown_key_cannot_be_revoked(accounts, issued, key_id):
    with pytest.raises(NotFound):
        accounts.keys.revoke(key_id)


def test_rotating_a_name_ends_its_keys_and_no_other(accounts, issued, keyring):
    def rotate():
        return accounts.keys.rotate_named(
            kind=KeyKind.PERSONAL, project_id=1, name="make run", scopes=[Scope.READ]
        )

    other = accounts.keys.create(kind=KeyKind.PROJECT, project_id=1, name="make run", scopes=())
    first, second = rotate(), rotate()
    with pytest.raises(UnknownKey):
        keyring.authenticate_blocking(first.token)
    for alive in (second, other, issued.personal_key):
        assert keyring.authenticate_blocking(alive.token).key_id == alive.key_id


def test_a_rotation_that_fails_ends_nothing(accounts, issued, keyring, monkeypatch):
    made = accounts.keys.rotate_named(kind=KeyKind.PROJECT, project_id=1, name="n", scopes=())
    monkeypatch.setattr("nilometer.access.tokens.mask", lambda token: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        accounts.keys.rotate_named(kind=KeyKind.PROJECT, project_id=1, name="n", scopes=())
    assert keyring.authenticate_blocking(made.token).key_id == made.key_id


def test_project_ids_are_never_used_again(accounts, issued, database):
    second = accounts.create_project("second")
    with database.session(EVERY_ROW) as session:
        session.execute(text("delete from projects where id = :id"), {"id": second.project_id})
    assert accounts.create_project("third").project_id == second.project_id + 1


def test_a_project_needs_an_organization(accounts, issued):
    assert accounts.create_project("two", organization_id=issued.organization_id).project_id == 2
    with pytest.raises(NotFound, match="organization"):
        accounts.create_project("three", organization_id=NOBODY)


def test_a_project_needs_the_first_start(accounts):
    with pytest.raises(NotFound, match="nilometer serve"):
        accounts.create_project("early")


def test_rules_change_one_by_one_and_raise_the_version(accounts, issued):
    def rules(project):
        return (
            project.config_version,
            project.capture,
            sorted(project.dropped_distinct_ids),
            project.retention_days,
        )

    assert rules(accounts.projects.list()[0]) == (1, CaptureMode.ACCEPT, [], None)
    changed = accounts.projects.change(1, mode=CaptureMode.OVER_QUOTA)
    assert rules(changed) == (2, CaptureMode.OVER_QUOTA, [], None)
    changed = accounts.projects.change(1, dropped_distinct_ids=["b", "a", "b"], retention_days=7)
    assert rules(changed) == (3, CaptureMode.OVER_QUOTA, ["a", "b"], 7)
    changed = accounts.projects.change(
        1, mode=CaptureMode.ACCEPT, dropped_distinct_ids=[], retention_days="default"
    )
    assert rules(changed) == (4, CaptureMode.ACCEPT, [], None)
    assert [rules(project) for project in accounts.projects.list()] == [rules(changed)]


@pytest.mark.parametrize(
    ("rules", "attr"),
    [
        ({"retention_days": 0}, "retention_days"),
        ({"retention_days": 36501}, "retention_days"),
        ({"dropped_distinct_ids": [""]}, "dropped_distinct_ids"),
        ({"dropped_distinct_ids": ["x" * 1001]}, "dropped_distinct_ids"),
        ({"dropped_distinct_ids": [str(n) for n in range(1001)]}, "dropped_distinct_ids"),
    ],
)
def test_rules_out_of_bounds_change_nothing(accounts, issued, rules, attr):
    with pytest.raises(InvalidInput) as caught:
        accounts.projects.change(1, **rules)
    assert caught.value.attr == attr
    assert accounts.projects.list()[0].config_version == 1


def test_concurrent_changes_each_raise_the_version(accounts, issued):
    with ThreadPoolExecutor(20) as threads:
        list(threads.map(lambda _: accounts.projects.change(1, mode=CaptureMode.DROP), range(20)))
    assert accounts.projects.list()[0].config_version == 21


@given(st.lists(st.text(min_size=1, max_size=50), max_size=20))
def test_dropped_ids_come_back_exactly(ids):
    assert set(checked_ids(ids)) == set(ids)
