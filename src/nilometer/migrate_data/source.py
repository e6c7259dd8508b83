"""The data directory that is moved: locked, so that no server uses it, and read only."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from alembic.script import ScriptDirectory
from sqlalchemy import func, select

from nilometer.access.tables import AuditEntry, Organization
from nilometer.blobs.store import BlobStore, open_store
from nilometer.clickhouse.migrate import SchemaBehind
from nilometer.clickhouse.store import Store
from nilometer.data_directory import DataDirectory
from nilometer.database.engine import Database
from nilometer.database.fence import EVERY_ROW
from nilometer.database.migrate import configuration, current
from nilometer.errors import ConfigurationError
from nilometer.log.sqlite.unread import UnreadRecords
from nilometer.migrate_data.claim import Extent
from nilometer.migrate_data.rows import require_known
from nilometer.settings import Settings


@dataclass(frozen=True, slots=True)
class Source:
    """The parts of the embedded deployment. `identity` is the id of its first organization,
    `extent` how far it has come; `blobs` is None where the target uses the same storage."""

    identity: str
    place: str
    extent: Extent
    database: Database
    store: Store
    unread: UnreadRecords
    blobs: BlobStore | None


@contextmanager
def opened(path: Path, settings: Settings, blobs_url: str | None) -> Generator[Source]:
    """The source in this directory. `settings` are the target's, `blobs_url` is where the source
    keeps its blobs, by default in the directory.

    Raises ConfigurationError when a server uses it, it is no data directory, or not of this
    release.
    """
    file = path / "nilometer.db"
    if not file.is_file():
        raise ConfigurationError(
            f"there is no data of Nilometer in {path}: name the directory that the server was "
            "started with (--data-dir)"
        )
    with (
        closing(DataDirectory(path)) as directory,
        closing(Database(f"sqlite:///{directory.path / file.name}")) as database,
        closing(Store(directory.path / "clickhouse")) as store,
    ):
        _require_this_release(database, path)
        require_known(database)
        _open(store, path)
        unread = UnreadRecords(directory.path / "log", rewind_seconds=settings.log_rewind_seconds)
        blobs = blobs_of(directory.path, settings, blobs_url)
        try:
            extent = Extent(unread.end, _last_audit_id(database))
            yield Source(_identity(database), str(path), extent, database, store, unread, blobs)
        finally:
            if blobs is not None:
                blobs.close()


def require_same_release(database: Database, what: str) -> None:
    """Raises ConfigurationError for a database that is not exactly at this release's migrations."""
    script = ScriptDirectory.from_config(configuration())
    head, revision = script.get_current_head(), current(database)
    if revision == head:
        return
    known = {each.revision for each in script.walk_revisions()}
    if revision and revision not in known:
        raise ConfigurationError(
            f"{what} is of a newer release (revision {revision}, and this one knows {head}): use "
            "that release's `nilometer migrate-data`"
        )
    raise ConfigurationError(
        f"{what} is of an older release (revision {revision or 'none'}, and this one needs {head})"
    )


def require_same_schema(store: Store, what: str) -> None:
    """The same for a store that is open."""
    run, ours = store.schema()
    if run > ours:
        raise ConfigurationError(
            f"{what} is of a newer release (migration {run:04}, and this one knows {ours:04}): use "
            "that release's `nilometer migrate-data`"
        )


def _require_this_release(database: Database, path: Path) -> None:
    try:
        require_same_release(database, f"the data in {path}")
    except ConfigurationError as error:
        if "older" not in error.detail:
            raise
        raise ConfigurationError(f"{error.detail}: {_bring_up(path)}") from None


def _open(store: Store, path: Path) -> None:
    try:
        store.open(migrating=False)
    except SchemaBehind:
        raise ConfigurationError(
            f"the store in {path} is of an older release: {_bring_up(path)}"
        ) from None
    require_same_schema(store, f"the store in {path}")


def _bring_up(path: Path) -> str:
    return f"start `nilometer serve --data-dir {path}` of this release once, and stop it"


def blobs_of(directory: Path, settings: Settings, url: str | None) -> BlobStore | None:
    """The source's blobs, None where they are where the target's are. Raises ConfigurationError."""
    default = directory / "blobs"
    if url is None and not default.is_dir():
        raise ConfigurationError(
            f"there is no folder blobs in {directory}: say with --blobs-from where its server "
            "keeps them (its NILOMETER_BLOBS_URL)"
        )
    place = url or default.as_uri()
    if place == settings.effective_blobs_url:
        return None
    if not place.startswith("file://"):
        raise ConfigurationError(
            f"blobs that are in a bucket stay there, because events name it: set "
            f"NILOMETER_BLOBS_URL={place}"
        )
    return open_store(place, bucket=settings.blobs_bucket)


def _last_audit_id(database: Database) -> int:
    with database.read(EVERY_ROW) as session:
        return session.scalar(select(func.max(AuditEntry.id))) or 0


def _identity(database: Database) -> str:
    query = select(Organization.id).order_by(Organization.created_at, Organization.id).limit(1)
    with database.read(EVERY_ROW) as session:
        identity = session.scalar(query)
    if identity is None:
        raise ConfigurationError(
            "no server was ever started on the source: there is nothing to move"
        )
    return identity
