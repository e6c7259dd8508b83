"""NUL, which no text of PostgreSQL holds, is the fault of who sent it, and nobody else's."""

from __future__ import annotations

from contextlib import suppress

import psycopg
import pytest
from sqlalchemy import exc, select

from nilometer.access.tables import Project
from nilometer.database import postgres, sqlite
from nilometer.database.fence import EVERY_ROW
from nilometer.errors import InvalidInput
from tests.database.both import KINDS, opened

OF_DRIVER = psycopg.DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes")
OF_SERVER = psycopg.errors.CharacterNotInRepertoire("invalid byte sequence")


@pytest.fixture(params=KINDS)
def database(request, tmp_path):
    with opened(request, tmp_path) as database:
        yield database


def test_what_is_looked_for_with_nul_is_not_there_or_refused(database):
    with suppress(InvalidInput), database.read(EVERY_ROW) as session:
        assert session.scalar(select(Project.id).where(Project.name == "a\0b")) is None


@pytest.mark.parametrize(
    ("error", "holds"),
    [
        (OF_DRIVER, True),
        (OF_SERVER, True),
        (psycopg.DataError("integer out of range"), False),
        (psycopg.errors.NumericValueOutOfRange("NUL"), False),
    ],
)
def test_the_drivers_and_the_servers_refusal_are_told_from_others(error, holds):
    told = exc.DataError("SELECT", {}, error)
    assert postgres.holds_nul(told) is holds
    assert not postgres.is_outage(told)
    assert not sqlite.holds_nul(told)
