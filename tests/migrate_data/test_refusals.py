"""What is refused before anything is touched, each with what to do."""

from __future__ import annotations

from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from alembic import command

from nilometer.access.accounts import Accounts
from nilometer.data_directory import DataDirectory
from nilometer.database.engine import Database
from nilometer.database.fence import EVERY_ROW
from nilometer.database.migrate import configuration, create, migrate
from nilometer.domain import clock
from nilometer.errors import ConfigurationError
from nilometer.foundation import lay
from nilometer.migrate_data.claim import (
    Claims,
    Extent,
    SourceWentOn,
    TargetTaken,
    require_whole,
    require_whole_in,
)
from nilometer.migrate_data.move import Move
from nilometer.migrate_data.source import blobs_of
from nilometer.settings import Settings
from tests.database import servers
from tests.database.migrated import migrated
from tests.running import Server
from tests.services import PostgresService

SERVERS: dict[str, Any] = {
    "profile": "distributed",
    "kafka_bootstrap_servers": "127.0.0.1:1",
    "database_url": "postgresql://u:p@127.0.0.1:1/d",
    "clickhouse_url": "clickhouse://u:p@127.0.0.1:1/nilometer",
    "blobs_url": "s3://bucket",
}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A data directory, as far as its database."""
    path = tmp_path / "data"
    (path / "blobs").mkdir(parents=True)
    with closing(migrated(path / "nilometer.db")) as database:
        Accounts(database).bootstrap(None)
    return path


def refusal(path: Path, blobs_from: str | None = None, **changes: Any) -> str:
    with pytest.raises(ConfigurationError) as refused:
        Move(path, Settings(**SERVERS | changes), blobs_from)
    return refused.value.detail


@pytest.mark.parametrize("missing", ["kafka_bootstrap_servers", "blobs_url", "clickhouse_url"])
def test_half_a_target_is_named(directory: Path, missing: str):
    assert f"NILOMETER_{missing.upper()}" in refusal(directory, **{missing: None})


def test_a_directory_without_data_is_not_made_into_one(tmp_path: Path):
    assert "there is no data of Nilometer" in refusal(tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_a_source_that_a_server_uses_is_refused(directory: Path):
    with closing(DataDirectory(directory)):
        assert "in use by another nilometer" in refusal(directory)


def test_a_source_of_an_older_release_is_to_be_brought_up_first(tmp_path: Path):
    with closing(Database(f"sqlite:///{tmp_path}/nilometer.db")) as database:
        create(database)
        config = configuration()
        config.attributes["database"] = database
        command.upgrade(config, "0007")
    told = refusal(tmp_path)
    assert "older release (revision 0007" in told
    assert f"start `nilometer serve --data-dir {tmp_path}` of this release once" in told


def test_a_source_of_a_newer_release_is_for_that_release_to_move(directory: Path):
    with (
        closing(Database(f"sqlite:///{directory}/nilometer.db")) as database,
        database.session(EVERY_ROW) as session,
    ):
        session.connection().exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    assert "use that release's `nilometer migrate-data`" in refusal(directory)


def test_a_source_without_a_store_is_to_be_started_once(directory: Path):
    assert "start `nilometer serve" in refusal(directory)
    assert sorted(path.name for path in directory.iterdir()) == ["blobs", "lock", "nilometer.db"]


def test_where_blobs_are_must_be_known(directory: Path):
    (directory / "blobs").rmdir()
    (directory / "clickhouse").mkdir()
    # The store is looked at first; so the place is asked of the part itself.
    with pytest.raises(ConfigurationError, match="--blobs-from"):
        blobs_of(directory, Settings(**SERVERS), None)
    with pytest.raises(ConfigurationError, match="NILOMETER_BLOBS_URL=s3://old"):
        blobs_of(directory, Settings(**SERVERS), "s3://old")
    assert blobs_of(directory, Settings(**SERVERS), "s3://bucket") is None


def test_a_database_that_is_in_use_is_not_claimed(postgres: PostgresService):
    with servers.migrated(postgres) as database:
        Accounts(database).bootstrap(None)
        with pytest.raises(TargetTaken, match=r"it has rows in .*organizations"):
            _claim(database, "a")
        require_whole(database)


def test_a_claim_is_its_sources_and_keeps_servers_away_until_it_is_finished(
    postgres: PostgresService,
):
    with servers.migrated(postgres) as database:
        claims = Claims(database)
        assert claims.found("a") is None
        first = _claim(database, "a")
        assert _claim(database, "a") == first
        with pytest.raises(TargetTaken, match="another deployment"):
            _claim(database, "b")
        with pytest.raises(ConfigurationError, match="to its end first"):
            require_whole(database)
        with pytest.raises(ConfigurationError, match="to its end first"):
            Accounts(database).bootstrap(None, require_whole_in)
        assert _claim(database, "a") == first
        url = database.url.render_as_string(hide_password=False)
        with pytest.raises(ConfigurationError, match="to its end first"):
            _lay(Settings(**SERVERS | {"database_url": url}))
        finished_at = claims.finish(Extent(7, 3))
        assert claims.finish(Extent(9, 9)) == finished_at
        claims.found("a").require_moved(Extent(7, 3))
        with pytest.raises(SourceWentOn, match="it took 3 records and noted 1 management actions"):
            claims.found("a").require_moved(Extent(10, 4))
        require_whole(database)


def test_a_process_that_started_before_a_move_began_does_not_use_its_target(tmp_path: Path):
    """On an embedded server, which looks for no move before: it is the last look that counts."""
    with closing(migrated(tmp_path / "nilometer.db")) as database:
        _claim(database, "a")
    with pytest.raises(AssertionError, match="to its end first"):
        Server(tmp_path).start().kill()


def test_a_table_that_nothing_moves_is_told(directory: Path):
    with closing(Database(f"sqlite:///{directory}/nilometer.db")) as database:
        migrate(database)
        with database.session(EVERY_ROW) as session:
            session.connection().exec_driver_sql("CREATE TABLE of_a_later_release (id INTEGER)")
    assert "does not know: of_a_later_release" in refusal(directory)


def _claim(database: Database, source: str) -> Any:
    return Claims(database).take(source, "/data", clock.now())


def _lay(settings: Settings) -> None:
    with ExitStack() as stack:
        lay(settings, stack)
