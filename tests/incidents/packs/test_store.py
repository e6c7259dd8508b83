from contextlib import closing, contextmanager
from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.exc import IntegrityError

from nilometer.access.accounts import Accounts
from nilometer.access.types import OPERATOR, Authority
from nilometer.database.engine import Database
from nilometer.database.fence import EVERY_ROW
from nilometer.database.migrate import migrate
from nilometer.errors import InvalidInput, NotFound
from nilometer.incidents.packs import active, store
from nilometer.incidents.packs.active import ActivePacks
from nilometer.incidents.packs.reading import PackInvalid, Problem
from nilometer.incidents.packs.store import Packs
from nilometer.incidents.packs.tables import PackState
from nilometer.incidents.stages.context import PackUnreadable

DRAFT, ACTIVE, DEPRECATED = PackState.DRAFT, PackState.ACTIVE, PackState.DEPRECATED


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    with closing(Database(f"sqlite:///{tmp_path_factory.mktemp('packs')}/nilometer.db")) as made:
        migrate(made)
        Accounts(made).bootstrap(None)
        yield made


@pytest.fixture
def project(database):
    accounts = Accounts(database)
    return accounts.projects.create("p").project_id


def document(name="p", **members):
    return {"format": 1, "name": name, **members}


@contextmanager
def statements_of():
    """The statements that are executed meanwhile."""
    statements = []

    def note(*args):
        statements.append(args[2])

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def states(packs, project, name=None):
    return [(each.name, each.version, each.state) for each in packs.list(project, name)]


def test_versions_are_added_and_one_of_a_name_is_active(database, project):
    packs = Packs(database, Authority("key:k", "127.0.0.1", None))
    assert packs.add(project, document()).version == 1
    assert packs.add(project, document(domain="b")).version == 2
    packs.add(project, document("other"))
    assert states(packs, project) == [("other", 1, DRAFT), ("p", 2, DRAFT), ("p", 1, DRAFT)]
    packs.activate(project, "p", 1)
    packs.activate(project, "other", 1)
    done = packs.activate(project, "p", 2)
    assert (done.state, done.changed_by, done.created_by) == (ACTIVE, "key:k", "key:k")
    assert states(packs, project, "p") == [("p", 2, ACTIVE), ("p", 1, DEPRECATED)]
    packs.activate(project, "p", 1)
    assert states(packs, project, "p") == [("p", 2, DEPRECATED), ("p", 1, ACTIVE)]
    packs.deactivate(project, "p", 1)
    assert packs.get(project, "p").version == 2
    assert packs.get(project, "p", 1).document == document()


def test_a_list_reads_no_document_and_no_state_that_is_not_asked_for(database, project):
    packs = Packs(database)
    packs.add(project, document())
    packs.add(project, document(domain="b"))
    packs.activate(project, "p", 1)
    with statements_of() as statements:
        [listed] = packs.list(project, state=ACTIVE)
    assert (listed.name, listed.version, listed.state) == ("p", 1, ACTIVE)
    assert any("FROM packs" in each for each in statements)
    assert not any("document" in each for each in statements)


def test_the_same_document_again_adds_nothing(database, project):
    packs = Packs(database)
    first = packs.add(project, document(domain="a"))
    again = packs.add(project, {"domain": "a", "name": "p", "format": 1})
    assert (again.version, again.digest) == (first.version, first.digest)
    assert packs.add(project, document()).version == 2
    assert packs.add(project, document(domain="a")).version == 3


def test_what_is_no_pack_or_not_there_is_refused(database, project):
    packs = Packs(database)
    with pytest.raises(PackInvalid):
        packs.add(project, {"format": 1})
    packs.add(project, document())
    for name, version in (("p", 2), ("none", 1), ("p", 0), ("p", 2**40), ("x" * 500, 1)):
        with pytest.raises(NotFound):
            packs.activate(project, name, version)
    with pytest.raises(NotFound):
        packs.list(10**6)


def test_there_is_room_for_so_many_and_no_more(database, project, monkeypatch):
    monkeypatch.setattr(store, "MAX_NAMES", 2)
    monkeypatch.setattr(store, "MAX_VERSIONS", 2)
    packs = Packs(database)
    for name in ("a", "b"):
        packs.add(project, document(name))
    packs.add(project, document("a", domain="2"))
    for refused in (document("c"), document("a", domain="3")):
        with pytest.raises(InvalidInput) as told:
            packs.add(project, refused)
        assert told.value.code == "full"


def test_each_change_is_in_the_audit_log(database, project):
    packs = Packs(database, OPERATOR)
    packs.add(project, document())
    packs.activate(project, "p", 1)
    packs.activate(project, "p", 1)
    packs.deactivate(project, "p", 1)
    told = [
        (each.action, each.subject)
        for each in Accounts(database).audit.list(limit=10).entries
        if each.project_id == project and each.action.startswith("pack.")
    ]
    assert told == [("pack.deactivate", "p 1"), ("pack.activate", "p 1"), ("pack.add", "p 1")]


def test_the_database_lets_only_one_of_a_name_be_active(database, project):
    packs = Packs(database)
    for domain in ("a", "b"):
        packs.add(project, document(domain=domain))
    with pytest.raises(IntegrityError), database.session(EVERY_ROW) as session:
        session.execute(
            text("UPDATE packs SET state = 'active' WHERE project_id = :id"), {"id": project}
        )


def chosen(packs, database, project, kind, domain=None):
    with database.read(EVERY_ROW) as session:
        found = packs.choose(session, project, kind, domain)
    return None if found is None else (found.name, found.version)


def test_a_pack_that_knows_the_type_is_chosen_then_one_of_the_domain_then_the_only_one(
    database, project
):
    packs, asked = Packs(database), ActivePacks()
    packs.add(project, document("a-first", domain="d"))
    packs.add(project, document("b-knows", exceptions=[{"type": "T", "aliases": ["t"]}]))
    assert chosen(asked, database, project, "T") is None
    packs.activate(project, "a-first", 1)
    assert chosen(asked, database, project, "T") == ("a-first", 1)
    packs.activate(project, "b-knows", 1)
    for kind, domain, expected in (
        ("T", "d", ("b-knows", 1)),
        ("t", None, ("b-knows", 1)),
        ("X", "d", ("a-first", 1)),
        ("X", None, None),
    ):
        assert chosen(asked, database, project, kind, domain) == expected


def test_a_version_is_read_once_and_stays_to_be_had(database, project, monkeypatch):
    packs, asked = Packs(database), ActivePacks()
    packs.add(project, document())
    packs.add(project, document(domain="b"))
    packs.activate(project, "p", 2)
    read = []
    parse = active.parse_pack
    monkeypatch.setattr(active, "parse_pack", lambda found: read.append(1) or parse(found))
    for _ in range(3):
        assert chosen(asked, database, project, "X") == ("p", 2)
    assert len(read) == 1
    with database.read(EVERY_ROW) as session:
        old = asked.version(session, project, "p", 1)
        assert asked.version(session, project, "p", 9) is None
        assert asked.version(session, project + 1, "p", 1) is None
    assert old is not None
    assert (old.name, old.version, old.pack.domain) == ("p", 1, None)


def test_what_was_loaded_before_a_transaction_is_not_read_in_it(database, project, monkeypatch):
    packs, asked = Packs(database), ActivePacks()
    packs.add(project, document())
    packs.activate(project, "p", 1)
    asked.load(database, {project, project + 1})
    asked.load(database, ())
    monkeypatch.setattr(active, "parse_pack", pytest.fail)
    asked.load(database, {project})
    assert chosen(asked, database, project, "X") == ("p", 1)


def test_beside_a_version_of_a_later_release_none_is_chosen_but_those_before_can_be_had(
    database, project
):
    packs, asked = Packs(database), ActivePacks()
    packs.add(project, document())
    packs.activate(project, "p", 1)
    packs.add(project, document("q", exceptions=[{"type": "X"}]))
    packs.activate(project, "q", 1)
    with database.session(EVERY_ROW) as session:
        session.execute(
            text("UPDATE packs SET document = :new WHERE project_id = :id AND name = 'p'"),
            {"id": project, "new": '{"format": 2, "name": "p"}'},
        )
    for _ in range(2):  # read, and remembered
        with pytest.raises(PackUnreadable, match="version 1 of the pack p cannot be read"):
            chosen(asked, database, project, "X")
    with database.read(EVERY_ROW) as session:
        assert asked.version(session, project, "p", 1) is None
        assert asked.version(session, project, "q", 1) is not None
    packs.deactivate(project, "p", 1)
    assert chosen(asked, database, project, "X") == ("q", 1)
    with pytest.raises(PackInvalid):
        packs.activate(project, "p", 1)


def test_a_version_that_could_not_be_read_is_read_again_after_a_while(
    database, project, monkeypatch
):
    packs, asked, read = Packs(database), ActivePacks(), []
    packs.add(project, document())
    packs.activate(project, "p", 1)

    def unreadable(_):
        read.append(1)
        raise PackInvalid((Problem("format", "It is of another release."),))

    with monkeypatch.context() as patch:
        patch.setattr(active, "parse_pack", unreadable)
        asked.load(database, {project})
        for _ in range(3):
            with pytest.raises(PackUnreadable):
                chosen(asked, database, project, "X")
        assert len(read) == 1
    monkeypatch.setattr(active, "UNREAD_SECONDS", 0.0)
    assert chosen(asked, database, project, "X") == ("p", 1)


def test_a_deleted_project_keeps_no_pack(database, project):
    packs = Packs(database)
    packs.add(project, document())
    packs.forget(project)
    assert packs.list(project) == []


def test_moments_are_of_utc(database, project):
    added = Packs(database).add(project, document())
    assert added.created_at.tzinfo is UTC
    assert abs((datetime.now(UTC) - added.created_at).total_seconds()) < 60
