"""The audit log: every change, by whom and from where, never a token, and only ever more of it."""

import pytest
from sqlalchemy import exc, text

from nilometer.access.types import Action, Authority, CaptureMode, KeyKind, Scope
from nilometer.database.fence import EVERY_ROW
from nilometer.errors import InvalidInput


@pytest.fixture
def acting(accounts, issued):
    return accounts.acting_as(Authority("key:k", "192.0.2.7", issued.organization_id))


def entries(accounts, **bounds):
    return accounts.audit.list(**{"limit": 500, **bounds}).entries


def test_every_action_is_told_with_who_and_from_where(acting, issued):
    before = len(entries(acting))
    acting.organizations.rename(issued.organization_id, "renamed")
    project, _ = acting.projects.create_with_key("p")
    acting.projects.change(project.project_id, name="q", mode=CaptureMode.DROP)
    acting.projects.rotate(project.project_id)
    made = acting.keys.create(
        kind=KeyKind.PERSONAL, project_id=project.project_id, name="n", scopes=[Scope.READ]
    )
    acting.keys.rename(made.key_id, "m")
    acting.keys.rotate(made.key_id)
    acting.keys.revoke(made.key_id)
    acting.keys.revoke(made.key_id)
    acting.projects.delete(project.project_id)
    told = entries(acting)[: -before or None][::-1]
    assert [entry.action for entry in told] == [
        Action.ORGANIZATION_RENAME,
        Action.PROJECT_CREATE,
        Action.KEY_CREATE,
        Action.PROJECT_CHANGE,
        Action.PROJECT_ROTATE,
        Action.KEY_REVOKE,
        Action.KEY_CREATE,
        Action.KEY_CREATE,
        Action.KEY_RENAME,
        Action.KEY_ROTATE,
        Action.KEY_REVOKE,
        Action.PROJECT_DELETE,
    ]
    assert {(entry.actor, entry.address) for entry in told} == {("key:k", "192.0.2.7")}
    assert told[0].detail == {"name": ["default", "renamed"]}
    assert told[3].detail == {"name": ["p", "q"], "capture_mode": ["accept", "drop"]}
    assert told[8].subject == made.key_id


def test_what_is_refused_is_not_told(acting, accounts, issued):
    before = len(entries(acting))
    with pytest.raises(InvalidInput):
        acting.projects.create("\n")
    with pytest.raises(InvalidInput):
        acting.keys.create(kind=KeyKind.PERSONAL, project_id=1, name="n", scopes=[])
    assert len(entries(acting)) == before


def test_a_change_that_fails_leaves_no_entry(acting, monkeypatch):
    before = len(entries(acting))
    monkeypatch.setattr("nilometer.access.tokens.mask", lambda token: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        acting.projects.create_with_key("half")
    assert len(entries(acting)) == before
    assert [project.name for project in acting.projects.list()] == ["default"]


def test_no_token_and_no_distinct_id_is_in_the_log(acting, database, issued):
    tokens = [issued.project_key.token, issued.personal_key.token, acting.projects.rotate(1).token]
    acting.projects.change(1, dropped_distinct_ids=["ada@example.org"])
    with database.read(EVERY_ROW) as session:
        told = str(session.execute(text("select * from audit_log")).all())
    assert "dropped_distinct_ids" in told
    for secret in (*tokens, "ada@example.org"):
        assert secret not in told


@pytest.mark.parametrize(
    "statement",
    [
        "update audit_log set actor = 'nobody'",
        "delete from audit_log",
        "delete from audit_log where id = 1",
        "insert into audit_log select * from audit_log where id = 1 "
        "on conflict (id) do update set actor = 'nobody'",
    ],
)
def test_the_database_refuses_to_change_the_past(accounts, issued, database, statement):
    before = entries(accounts)
    with (
        pytest.raises(exc.IntegrityError, match="append-only"),
        database.session(EVERY_ROW) as session,
    ):
        session.execute(text(statement))
    assert entries(accounts) == before


@pytest.mark.parametrize(
    ("database", "statement"),
    [
        ("sqlite", "insert or replace into audit_log select * from audit_log where id = 1"),
        ("postgresql", "truncate audit_log"),
    ],
    indirect=["database"],
)
def test_nor_by_its_own_ways(accounts, issued, database, statement):
    test_the_database_refuses_to_change_the_past(accounts, issued, database, statement)


def test_an_organization_sees_its_own_entries_only(accounts, acting, issued):
    made, _ = accounts.organizations.create("others")
    theirs = accounts.acting_as(Authority("key:x", None, made.organization_id))
    assert {entry.organization_id for entry in entries(theirs)} == {made.organization_id}
    assert {entry.organization_id for entry in entries(acting)} == {issued.organization_id}
    assert len(entries(accounts)) == len(entries(theirs)) + len(entries(acting))


def test_a_new_organization_is_in_its_makers_log_and_names_no_key_of_theirs(
    accounts, acting, issued
):
    made, keys = acting.organizations.create("theirs")
    (told, *_) = entries(acting)
    assert (told.action, told.actor) == (Action.ORGANIZATION_CREATE, "key:k")
    assert (told.subject, told.detail) == (made.organization_id, {"name": "theirs"})
    assert (told.address, told.project_id) == ("192.0.2.7", None)
    theirs = entries(accounts.acting_as(Authority("key:x", None, made.organization_id)))
    assert [entry.action for entry in theirs[::-1]] == [
        Action.ORGANIZATION_CREATE,
        Action.PROJECT_CREATE,
        Action.KEY_CREATE,
        Action.KEY_CREATE,
    ]
    assert {(entry.actor, entry.address) for entry in theirs} == {("operator", None)}
    assert keys.personal_key.key_id in {entry.subject for entry in theirs}


def test_a_change_of_nothing_changes_nothing(acting):
    before, rules = entries(acting), acting.projects.get(1)
    assert acting.projects.change(1) == rules
    assert acting.projects.get(1) == rules
    assert entries(acting) == before


def test_pages_hold_every_entry_once(acting):
    for number in range(7):
        acting.projects.change(1, name=f"name {number}")
    everything, seen, before = entries(acting), [], None
    while True:
        page = acting.audit.list(limit=3, before=before)
        assert page.count == len(everything)
        seen += page.entries
        before = page.next_before
        if before is None:
            break
    assert seen == everything
