"""A migrated PostgreSQL database for tests: copied from one made once a process, because a copy is
fast. It belongs to a role that row-level security holds for, unlike the server's superuser."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from uuid import uuid4

import psycopg
from psycopg import sql

from nilometer.database.engine import Database
from nilometer.database.migrate import migrate
from tests.servers.postgres import PostgresServer
from tests.services import PostgresService, running

ROLE = "nilometer_tests"


@contextmanager
def migrated(postgres: PostgresService) -> Iterator[Database]:
    """An open database with every table and no row; dropped after."""
    name = f"test_{uuid4().hex}"
    template = _template(postgres)
    _make(postgres, name, template)
    try:
        with closing(Database(_url(postgres, name))) as database:
            yield database
    finally:
        _drop(postgres, name)


@contextmanager
def empty(postgres: PostgresService) -> Iterator[Database]:
    """An open database with nothing in it; dropped after."""
    name = f"test_{uuid4().hex}"
    _make(postgres, name, "template1")
    try:
        with closing(Database(_url(postgres, name))) as database:
            yield database
    finally:
        _drop(postgres, name)


@contextmanager
def cut_off(database: Database) -> Iterator[None]:
    """While it lasts, nobody can connect to this database, and those who had are cut off."""
    name = sql.Identifier(str(database.url.database))
    server = running("postgres")
    assert isinstance(server, PostgresServer)
    with _operator(PostgresService(server)) as connection:
        connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(name))
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
            [database.url.database],
        )
        try:
            yield
        finally:
            connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(name))


@cache
def _make_role(postgres: PostgresService) -> None:
    with _operator(postgres) as connection:
        # Another process of the suite may be making the role at this moment.
        connection.execute("SELECT pg_advisory_lock(4242)")
        try:
            known = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [ROLE])
            if known.fetchone() is None:
                connection.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{ROLE}'")
        finally:
            connection.execute("SELECT pg_advisory_unlock(4242)")


@cache
def _template(postgres: PostgresService) -> str:
    name = f"template_{os.getpid()}_{uuid4().hex}"
    _make(postgres, name, "template1")
    with closing(Database(_url(postgres, name))) as database:
        migrate(database)
    return name


def _make(postgres: PostgresService, name: str, template: str) -> None:
    _make_role(postgres)
    with _operator(postgres) as connection:
        connection.execute(f'CREATE DATABASE "{name}" OWNER {ROLE} TEMPLATE "{template}"')


def _drop(postgres: PostgresService, name: str) -> None:
    with _operator(postgres) as connection:
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def _url(postgres: PostgresService, name: str) -> str:
    parts = psycopg.conninfo.conninfo_to_dict(postgres.url)
    return f"postgresql://{ROLE}:{ROLE}@{parts['host']}:{parts['port']}/{name}"


@contextmanager
def _operator(postgres: PostgresService) -> Iterator[psycopg.Connection]:
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        yield connection
