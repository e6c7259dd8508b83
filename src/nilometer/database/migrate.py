"""Brings a database to this version's tables: the one runner, also behind `alembic upgrade head`.

Migrations expand, then contract: a release only adds what the next one needs, and removes only
what no running version uses, because a rolling upgrade has two versions on one database. There are
no downgrades: the version before runs on the expanded tables, and undoing an expansion loses data.
Which older versions a contraction still serves, it says itself: see `compatibility`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection

from nilometer.database import compatibility, sqlite
from nilometer.database.engine import Database, DatabaseUnavailable
from nilometer.database.fence import EVERY_ROW
from nilometer.database.transactions import MIGRATION_SECONDS, Transaction
from nilometer.errors import ConfigurationError, NilometerError

MIGRATIONS = Path(__file__).parent / "migrations"

_logger = logging.getLogger(__name__)
_BETWEEN_ATTEMPTS = 0.5
# Alembic keeps the migration that runs in a global of its module.
_one_at_a_time = threading.Lock()


class SchemaTooNew(ConfigurationError):
    """A newer release has dropped what this one needs."""

    code = "schema_too_new"


class MigrationBroken(NilometerError):
    """A migration left rows that refer to nothing; it was undone."""

    code = "migration_broken"


@dataclass(frozen=True, slots=True)
class Standing:
    """A database beside this release: `revision` is its own, empty before the first, `head` is the
    release's. `name` is `empty`, `behind`, `current` or `ahead`."""

    name: Literal["empty", "behind", "current", "ahead"]
    revision: str
    head: str


def standing(database: Database) -> Standing:
    """How far a database is; nothing is migrated. Raises DatabaseUnavailable and SchemaTooNew."""
    script = ScriptDirectory.from_config(configuration())
    revision, head = current(database), script.get_current_head() or ""
    if not revision:
        return Standing("empty", revision, head)
    if revision == head:
        return Standing("current", revision, head)
    if _knows(script, revision):
        return Standing("behind", revision, head)
    _require_served(database, script)
    return Standing("ahead", revision, head)


def migrate(database: Database) -> None:
    """Create the database if there is none, and run every migration that it lacks.

    All run in one transaction under the database's write lock: of two processes at once, the
    second waits and finds nothing to do, and a crash leaves the database as it was. A database
    that a newer version has expanded is left as it is. Raises DatabaseUnavailable, and SchemaTooNew
    for one that serves this version no more.
    """
    create(database)
    config = configuration()
    script = ScriptDirectory.from_config(config)
    revision = current(database)
    if revision and not _knows(script, revision):
        _require_served(database, script)
        _logger.warning("the database is of a newer version (revision %s); used as it is", revision)
        return
    config.attributes["database"] = database
    with _one_at_a_time:
        _upgrade(database, config)


def current(database: Database) -> str:
    """The revision that the database is at; empty before the first. Raises DatabaseUnavailable."""
    with database.read(EVERY_ROW) as session:
        return MigrationContext.configure(session.connection()).get_current_revision() or ""


def configuration() -> Config:
    """Alembic's configuration for the migrations of this package."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config


def create(database: Database) -> None:
    """Create the file of an empty database, if there is none; on a server, the database is made by
    who runs it. Raises DatabaseUnavailable."""
    if database.path is None:
        return
    try:
        sqlite.create(database.path)
    except OSError as error:
        raise DatabaseUnavailable(f"the database cannot be created: {error.strerror}") from error


@contextmanager
def migrating(database: Database) -> Generator[Connection]:
    """The transaction that migrations run in: alone, undone when it raises."""
    engine = database.engine.execution_options(transaction=Transaction.MIGRATE, rows=EVERY_ROW.text)
    with database.translated(), engine.connect() as connection, connection.begin():
        yield connection
        if not database.backend.check_migrated(connection):
            raise MigrationBroken("a migration left rows that refer to nothing; it was undone")


def _upgrade(database: Database, config: Config) -> None:
    """Run what is missing. A table that is in use is waited for in short attempts, because whoever
    wants it meanwhile waits behind us."""
    deadline = time.monotonic() + MIGRATION_SECONDS
    while True:
        try:
            command.upgrade(config, "head")
        except DatabaseUnavailable as error:
            if not database.backend.is_in_use(error.__cause__) or time.monotonic() > deadline:
                raise
            time.sleep(_BETWEEN_ATTEMPTS)
        else:
            return


def _require_served(database: Database, script: ScriptDirectory) -> None:
    with database.read(EVERY_ROW) as session:
        needed = compatibility.needed_revision(session.connection())
    if needed and not _knows(script, needed):
        ours = script.get_current_head()
        raise SchemaTooNew(
            f"the database serves releases that know its revision {needed}, and this one knows "
            f"{ours}: upgrade it"
        )


def _knows(script: ScriptDirectory, revision: str) -> bool:
    try:
        script.get_revision(revision)
    except CommandError:
        return False
    return True
