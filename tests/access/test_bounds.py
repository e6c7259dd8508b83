"""There are only so many organizations, projects and keys, and what has ended does not count."""

import pytest

from nilometer.access import bounds
from nilometer.access.types import KeyKind
from nilometer.errors import InvalidInput


@pytest.fixture
def create_key(accounts, issued):
    def create(name="n"):
        return accounts.keys.create(kind=KeyKind.PROJECT, project_id=1, name=name, scopes=())

    return create


def full():
    return pytest.raises(InvalidInput, match="the most there may be")


def test_the_bounds_are_those_of_the_docs():
    assert (bounds.MAX_ORGANIZATIONS, bounds.MAX_PROJECTS, bounds.MAX_KEYS) == (1000, 2000, 1000)


def test_a_project_has_so_many_live_keys(accounts, create_key, monkeypatch):
    monkeypatch.setattr("nilometer.access.keys.MAX_KEYS", 4)  # two came with the first start
    create_key()
    last = create_key()
    with full() as refused:
        create_key()
    assert refused.value.code == "full"
    accounts.keys.revoke(last.key_id)
    create_key()
    accounts.projects.create_with_key("has its own")


def test_a_rotation_finds_room_where_it_makes_it(accounts, create_key, monkeypatch):
    monkeypatch.setattr("nilometer.access.keys.MAX_KEYS", 3)
    named = {"kind": KeyKind.PROJECT, "project_id": 1, "scopes": ()}
    create_key("nightly")
    for _ in range(5):
        accounts.keys.rotate_named(name="nightly", **named)
        accounts.projects.rotate(1)
    with full():
        accounts.keys.rotate_named(name="another", **named)
    assert sum(key.revoked_at is None for key in accounts.keys.list(1)) == 3


def test_an_organization_has_so_many_projects(accounts, issued, monkeypatch):
    monkeypatch.setattr("nilometer.access.projects.MAX_PROJECTS", 2)
    second = accounts.projects.create("second")
    for create in (accounts.projects.create, accounts.projects.create_with_key):
        with full():
            create("third")
    accounts.projects.delete(second.project_id)
    accounts.projects.create("third")
    made, _ = accounts.organizations.create("others")
    accounts.projects.create("theirs", organization_id=made.organization_id)


def test_a_deployment_has_so_many_organizations(accounts, issued, monkeypatch):
    monkeypatch.setattr("nilometer.access.organizations.MAX_ORGANIZATIONS", 2)
    second, _ = accounts.organizations.create("second")
    with full():
        accounts.organizations.create("third")
    accounts.organizations.delete(second.organization_id)
    accounts.organizations.create("third")
