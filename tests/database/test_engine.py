"""The engine keeps what it committed, and says so when it cannot."""

import sqlite3
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from urllib.parse import quote

import pytest
from sqlalchemy import exc, text

from nilometer.access.tables import Organization
from nilometer.database import sqlite
from nilometer.database.engine import Database, DatabaseUnavailable
from nilometer.database.fence import EVERY_ROW
from nilometer.database.migrate import current, migrate
from nilometer.database.transactions import CONNECTIONS, Transaction
from nilometer.domain import clock
from nilometer.errors import ConfigurationError
from tests.running import wait_until


def organization(slug):
    return Organization(
        id=f"00000000-0000-4000-8000-{slug:>012}", name="n", slug=slug, created_at=clock.now()
    )


def slugs(database):
    with database.read(EVERY_ROW) as session:
        return list(session.scalars(text("select slug from organizations order by slug")))


def test_a_session_commits_when_its_block_ends(database):
    with database.session(EVERY_ROW) as session:
        session.add(organization("1"))
    assert slugs(database) == ["1"]


def test_a_session_that_raises_leaves_nothing(database):
    def fail_half_way():
        with database.session(EVERY_ROW) as session:
            session.add(organization("1"))
            session.flush()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert slugs(database) == []


def test_objects_stay_readable_after_their_session(database):
    with database.session(EVERY_ROW) as session:
        kept = organization("1")
        session.add(kept)
    assert kept.slug == "1"


@pytest.mark.parametrize("opened", [Database.session, Database.read])
def test_every_connection_is_durable_and_checks_foreign_keys(database, opened):
    with opened(database, EVERY_ROW) as session:
        asked = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        said = {name: session.scalar(text(f"pragma {name}")) for name in asked}
    full = 2
    assert said == {
        "journal_mode": "wal",
        "synchronous": full,
        "foreign_keys": 1,
        "busy_timeout": 5000,
    }


def test_a_row_that_refers_to_nothing_is_refused(database):
    with pytest.raises(exc.IntegrityError), database.session(EVERY_ROW) as session:
        session.execute(
            text(
                "insert into projects (organization_id, name, created_at, config_version,"
                " capture_mode, dropped_distinct_ids) values ('x', 'n', 'now', 1, 'accept', '[]')"
            )
        )


def test_a_read_cannot_write(database):
    with pytest.raises(DatabaseUnavailable, match="readonly"), database.read(EVERY_ROW) as session:
        session.execute(text("delete from organizations"))
    with database.session(EVERY_ROW) as session:
        session.add(organization("1"))
    assert slugs(database) == ["1"]


def test_a_read_sees_one_moment(database):
    with database.read(EVERY_ROW) as session:
        count = text("select count(*) from organizations")
        before = session.scalar(count)
        with database.session(EVERY_ROW) as writer:
            writer.add(organization("1"))
        assert session.scalar(count) == before == 0


def test_a_writer_holds_the_lock_from_its_first_read(database):
    """Read, add one, write: without the lock at the start, some of these would be lost."""
    with database.session(EVERY_ROW) as session:
        session.add(organization("0"))

    def add_one(_):
        with database.session(EVERY_ROW) as session:
            row = session.get(Organization, organization("0").id)
            row.name = str(int("0" + row.name.strip("n")) + 1)

    with ThreadPoolExecutor(12) as threads:
        list(threads.map(add_one, range(60)))
    with database.read(EVERY_ROW) as session:
        assert session.get(Organization, organization("0").id).name == "60"


def test_a_missing_file_is_an_error_and_is_not_created(tmp_path):
    path = tmp_path / "nilometer.db"
    with closing(Database(f"sqlite:///{path}")) as database:
        with (
            pytest.raises(DatabaseUnavailable, match="unable to open"),
            database.read(EVERY_ROW) as session,
        ):
            session.execute(text("select 1"))
        with pytest.raises(DatabaseUnavailable), database.session(EVERY_ROW):
            pass
    assert not path.exists()


def test_a_file_moved_away_is_noticed_and_found_again(database):
    """An open file goes on working after it was moved: a commit would vanish with it."""
    with database.session(EVERY_ROW) as session:
        session.add(organization("1"))
    away = database.path.rename(database.path.with_suffix(".away"))
    with pytest.raises(DatabaseUnavailable):
        slugs(database)
    with pytest.raises(DatabaseUnavailable), database.session(EVERY_ROW) as session:
        session.add(organization("2"))
    away.rename(database.path)
    assert slugs(database) == ["1"]


def test_a_restored_file_is_read_instead_of_the_one_it_replaced(database, tmp_path):
    assert slugs(database) == []
    other = Database(f"sqlite:///{tmp_path / 'other.db'}")
    migrate(other)
    with other.session(EVERY_ROW) as session:
        session.add(organization("9"))
    other.close()
    (tmp_path / "other.db").rename(database.path)
    assert slugs(database) == ["9"]


def test_a_file_that_is_no_database_is_unavailable(tmp_path):
    path = tmp_path / "nilometer.db"
    path.write_bytes(b"not a database, but long enough to be looked at" * 100)
    with (
        closing(Database(f"sqlite:///{path}")) as database,
        pytest.raises(DatabaseUnavailable, match="not a database"),
        database.read(EVERY_ROW) as session,
    ):
        session.execute(text("select 1"))


def test_a_lock_held_too_long_by_another_process_is_unavailable(database, monkeypatch):
    short = {**sqlite._PRAGMAS[Transaction.WRITE], "busy_timeout": 50}
    monkeypatch.setitem(sqlite._PRAGMAS, Transaction.WRITE, short)
    with closing(sqlite3.connect(database.path, isolation_level=None)) as other:
        other.execute("begin immediate")
        with pytest.raises(DatabaseUnavailable, match="locked"), database.session(EVERY_ROW):
            pass
        assert slugs(database) == [], "readers go on beside a writer"
        other.execute("rollback")
    with database.session(EVERY_ROW) as session:
        session.add(organization("1"))


def test_a_writer_waits_for_another(database):
    waiting = threading.Event()

    def write():
        waiting.set()
        with database.session(EVERY_ROW) as session:
            session.add(organization("2"))

    with database.session(EVERY_ROW) as session:
        thread = threading.Thread(target=write)
        thread.start()
        waiting.wait(10)
        session.add(organization("1"))
    thread.join(90)
    assert slugs(database) == ["1", "2"]


def test_too_many_readers_at_once_are_told_so(database, monkeypatch):
    monkeypatch.setattr(database.engine.pool, "_timeout", 0.05)
    held = [database.read(EVERY_ROW) for _ in range(CONNECTIONS)]
    for read in held:
        read.__enter__().execute(text("select 1"))
    try:
        with pytest.raises(DatabaseUnavailable, match="every connection is taken"):
            slugs(database)
    finally:
        for read in held:
            read.__exit__(None, None, None)
    assert slugs(database) == []


def test_a_full_disk_undoes_the_transaction_and_recovers(database):
    def fill():
        with database.session(EVERY_ROW) as session:
            session.execute(text("pragma max_page_count = 1"))
            session.add(organization("1"))
            session.flush()
            session.execute(text("update organizations set name = hex(zeroblob(100000))"))

    with pytest.raises(DatabaseUnavailable, match="full"):
        fill()
    database.close()
    with database.session(EVERY_ROW) as session:
        session.add(organization("2"))
    assert slugs(database) == ["2"]


def test_an_error_names_no_value_of_a_statement(database):
    with database.session(EVERY_ROW) as session:
        session.add(organization("1"))
    with pytest.raises(exc.IntegrityError) as caught, database.session(EVERY_ROW) as session:
        session.execute(
            text(
                "insert into organizations (id, name, slug, created_at) "
                "values ('2', :name, '1', '2026-01-01 00:00:00')"
            ),
            {"name": "very secret"},
        )
    assert "very secret" not in str(caught.value)


@pytest.mark.parametrize("name", ["a b", "50%", "what?", "a#b", "é", "file:x", "100%25"])
def test_any_folder_name_works(tmp_path, name):
    folder = tmp_path / name
    with closing(Database(f"sqlite:///{quote(str(folder))}/nilometer.db")) as database:
        migrate(database)
        assert current(database)
    assert (folder / "nilometer.db").is_file()


def test_only_its_owner_may_read_the_file(tmp_path):
    with closing(Database(f"sqlite:///{tmp_path}/nilometer.db")) as database:
        migrate(database)
        with database.session(EVERY_ROW) as session:
            session.add(organization("1"))
            files = list(tmp_path.iterdir())
            assert {path.name for path in files} >= {"nilometer.db", "nilometer.db-wal"}
            assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


@pytest.mark.parametrize(
    "url", ["", "nilometer.db", "sqlite://", "postgresql://h", "mysql://h/d", "file:///x"]
)
def test_other_urls_are_refused(url):
    with pytest.raises(ConfigurationError, match="database URL"):
        Database(url)


def test_a_closed_database_leaves_no_file_open(database):
    assert slugs(database) == []
    database.close()
    wait_until(lambda: not database.path.with_name("nilometer.db-wal").exists())
