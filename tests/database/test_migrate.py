"""Migrations run once, whoever starts them, and agree with the models."""

import logging
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from nilometer.database.engine import Base, Database, DatabaseUnavailable
from nilometer.database.fence import EVERY_ROW
from nilometer.database.migrate import (
    MIGRATIONS,
    MigrationBroken,
    SchemaTooNew,
    configuration,
    create,
    current,
    migrate,
    migrating,
)

ROOT = Path(__file__).parents[2]
HEAD = ScriptDirectory.from_config(configuration()).get_current_head()


@pytest.fixture
def empty(tmp_path):
    with closing(Database(f"sqlite:///{tmp_path}/deep/er/nilometer.db")) as database:
        yield database


def test_an_empty_place_gets_every_table(empty):
    migrate(empty)
    assert current(empty) == HEAD
    with empty.read(EVERY_ROW) as session:
        tables = set(inspect(session.connection()).get_table_names())
    assert tables == set(Base.metadata.tables) | {"alembic_version"}


def test_models_and_migrations_agree(empty):
    migrate(empty)
    config = configuration()
    config.attributes["database"] = empty
    command.check(config)


def test_a_second_run_changes_nothing(empty):
    migrate(empty)
    before = empty.path.stat().st_mtime_ns
    migrate(empty)
    assert (current(empty), empty.path.stat().st_mtime_ns) == (HEAD, before)


def test_what_an_older_version_wrote_is_kept_and_older_processes_go_on_writing(empty):
    create(empty)
    config = configuration()
    config.attributes["database"] = empty
    command.upgrade(config, "0001")
    older = (
        "insert into organizations (id, name, slug, created_at) values (:id, :id, :id, '2026')",
        "insert into projects (organization_id, name, created_at, config_version, capture_mode,"
        " dropped_distinct_ids) values (:id, :id, '2026', 1, 'accept', '[]')",
    )

    def write(identity):
        with empty.session(EVERY_ROW) as session:
            for statement in older:
                session.execute(text(statement), {"id": identity})

    write("before")
    migrate(empty)
    write("after")
    with empty.read(EVERY_ROW) as session:
        assert session.execute(text("select id, name from projects")).all() == [
            (1, "before"),
            (2, "after"),
        ]


def test_threads_may_migrate_at_once(empty):
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: migrate(empty), range(8)))
    assert current(empty) == HEAD


def test_processes_may_migrate_at_once(empty):
    code = (
        "import sys; from nilometer.database.engine import Database;"
        "from nilometer.database.migrate import migrate;"
        "database = Database(sys.argv[1]); print('ready', flush=True); sys.stdin.read();"
        "migrate(database)"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, f"sqlite:///{empty.path}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in processes:
        process.stdout.readline()
    for process in processes:
        process.stdin.close()
        process.stdin = None
    errors = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    assert current(empty) == HEAD
    assert sorted(path.suffix for path in empty.path.parent.glob("*.new")) == []


def test_a_migration_that_fails_leaves_the_database_as_it_was(empty):
    migrate(empty)

    def fail_half_way():
        with migrating(empty) as connection:
            connection.exec_driver_sql("create table half (id integer)")
            connection.exec_driver_sql("alter table projects add column half integer")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    with empty.read(EVERY_ROW) as session:
        inspector = inspect(session.connection())
        assert "half" not in inspector.get_table_names()
        assert "half" not in {column["name"] for column in inspector.get_columns("projects")}


def test_a_migration_may_rebuild_a_table_but_not_break_references(empty):
    migrate(empty)
    with migrating(empty) as connection:
        connection.exec_driver_sql(
            "insert into organizations (id, name, slug, created_at) values ('1', 'n', 's', '2026')"
        )
        connection.exec_driver_sql(
            "insert into projects (organization_id, name, created_at, config_version,"
            " capture_mode, dropped_distinct_ids) values ('1', 'n', '2026', 1, 'accept', '[]')"
        )
    with migrating(empty) as connection:
        connection.exec_driver_sql("create table rebuilt as select * from organizations")
        connection.exec_driver_sql("drop table organizations")
        connection.exec_driver_sql("alter table rebuilt rename to organizations")
        connection.exec_driver_sql("create unique index pk on organizations (id)")
    with pytest.raises(MigrationBroken), migrating(empty) as connection:
        connection.exec_driver_sql("delete from organizations")
    with empty.read(EVERY_ROW) as session:
        assert session.scalar(text("select count(*) from organizations")) == 1


def test_a_database_of_a_newer_version_is_used_as_it_is(empty, caplog):
    migrate(empty)
    with empty.session(EVERY_ROW) as session:
        session.execute(text("update alembic_version set version_num = '9999'"))
    with caplog.at_level(logging.WARNING):
        migrate(empty)
    assert current(empty) == "9999"
    assert "newer version (revision 9999)" in caplog.text


NEXT = """
import sqlalchemy as sa
from alembic import op

revision = "9000"
down_revision = "{head}"
branch_labels = None
depends_on = None
min_compatible = "{needed}"


def upgrade():
    op.drop_column("projects", "keep_other_spans")
"""


@pytest.mark.parametrize(("needed", "served"), [("9000", False), (HEAD, True), ("", True)])
def test_a_contraction_says_which_releases_it_still_serves(
    empty, tmp_path, monkeypatch, caplog, needed, served
):
    migrate(empty)
    later = tmp_path / "later"
    shutil.copytree(MIGRATIONS, later)
    (later / "versions/9000_next.py").write_text(NEXT.format(head=HEAD, needed=needed))
    with monkeypatch.context() as next_release:
        next_release.setattr("nilometer.database.migrate.MIGRATIONS", later)
        migrate(empty)
        migrate(empty)
    assert current(empty) == "9000"
    if served:
        migrate(empty)
        assert "newer version (revision 9000)" in caplog.text
    else:
        with pytest.raises(SchemaTooNew, match=f"revision 9000, and this one knows {HEAD}"):
            migrate(empty)


def test_a_place_that_cannot_be_written_is_unavailable(tmp_path):
    (tmp_path / "file").write_text("not a directory")
    with (
        closing(Database(f"sqlite:///{tmp_path}/file/nilometer.db")) as database,
        pytest.raises(DatabaseUnavailable, match="cannot be created"),
    ):
        migrate(database)


def test_alembic_works_from_a_clone(tmp_path):
    def alembic(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "alembic", *arguments],
            cwd=ROOT,
            env={**os.environ, "NILOMETER_DATA_DIR": str(tmp_path / "data")},
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    alembic("upgrade", "head")
    assert alembic("current").strip() == f"{HEAD} (head)"
    with closing(Database(f"sqlite:///{tmp_path}/data/nilometer.db")) as database:
        assert current(database) == HEAD


def test_every_migration_only_goes_forward():
    for script in ScriptDirectory.from_config(configuration()).walk_revisions():
        assert not hasattr(script.module, "downgrade"), script.revision
