"""Brings a database to this version's tables: the one runner, also behind `alembic upgrade head`.

Migrations expand, then contract: a release only adds what the next one needs, and removes only
what no running version uses, because a rolling upgrade has two versions on one database. There are
no downgrades: the version before runs on the expanded tables, and undoing an expansion loses data.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection

from nilometer.database import sqlite
from nilometer.database.engine import Database, DatabaseUnavailable
from nilometer.database.fence import EVERY_ROW
from nilometer.database.transactions import Transaction
from nilometer.errors import NilometerError

MIGRATIONS = Path(__file__).parent / "migrations"

_logger = logging.getLogger(__name__)
# Alembic keeps the migration that runs in a global of its module.
_one_at_a_time = threading.Lock()


class MigrationBroken(NilometerError):
    """A migration left rows that refer to nothing; it was undone."""

    code = "migration_broken"


def migrate(database: Database) -> None:
    """Create the database if there is none, and run every migration that it lacks.

    All run in one transaction under the database's write lock: of two processes at once, the
    second waits and finds nothing to do, and a crash leaves the database as it was. A database
    that a newer version has expanded is left as it is. Raises DatabaseUnavailable.
    """
    create(database)
    config = configuration()
    script = ScriptDirectory.from_config(config)
    revision = current(database)
    if revision and not _knows(script, revision):
        _logger.warning("the database is of a newer version (revision %s); used as it is", revision)
        return
    config.attributes["database"] = database
    with _one_at_a_time:
        command.upgrade(config, "head")


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


def _knows(script: ScriptDirectory, revision: str) -> bool:
    try:
        script.get_revision(revision)
    except CommandError:
        return False
    return True
