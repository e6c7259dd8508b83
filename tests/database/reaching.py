"""Reaching a database a second way, and losing it: the same on SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from nilometer.database.engine import Database
from tests.database import servers


def url_of(database: Database) -> str:
    """What another process opens it by."""
    return database.url.render_as_string(hide_password=False)


@contextmanager
def away(database: Database) -> Iterator[None]:
    """The database is gone: its file, as when a volume is, or every connection to the server."""
    if database.path is None:
        with servers.cut_off(database):
            yield
        return
    elsewhere = database.path.rename(database.path.with_suffix(".away"))
    try:
        yield
    finally:
        elsewhere.rename(database.path)
