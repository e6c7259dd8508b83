"""PostgreSQL: there, of this release, fenced, with room for the pool."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing, contextmanager
from typing import Any

from sqlalchemy import make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError

from nilometer.database.engine import Database, DatabaseUnavailable
from nilometer.database.fence import EVERY_ROW
from nilometer.database.migrate import Standing, standing
from nilometer.database.transactions import CONNECTIONS
from nilometer.doctor import clocks
from nilometer.doctor.configuration import SETTINGS
from nilometer.doctor.finding import (
    FIRST_START,
    FIRST_START_OR_MOVE,
    Check,
    Verdict,
    failed,
    ok,
    together,
    warning,
)

SERVER = "database.server"
_LEAST_VERSION = 14  # functions with a RETURN body, which the row policies use
_REMEDY = "See that the PostgreSQL of NILOMETER_DATABASE_URL runs and is reachable from here."

_ROLE = """
SELECT current_user AS name, rolsuper, rolbypassrls, pg_is_in_recovery() AS standby,
    current_setting('default_transaction_read_only')::bool AS read_only,
    coalesce(has_schema_privilege(current_schema(), 'CREATE'), false) AS may_create,
    (SELECT count(*) FROM pg_policies AS policy JOIN pg_class AS fenced
        ON fenced.oid = format('%I.%I', policy.schemaname, policy.tablename)::regclass
        WHERE policy.policyname = 'tenant' AND policy.schemaname = current_schema()
        AND NOT (fenced.relrowsecurity AND fenced.relforcerowsecurity)) AS unfenced,
    (SELECT count(*) FROM pg_policies AS policy
        CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS privilege
        WHERE policy.policyname = 'tenant' AND policy.schemaname = current_schema()
        AND NOT has_table_privilege(format('%I.%I', schemaname, tablename), privilege)) AS lacking
FROM pg_roles WHERE rolname = current_user
"""
_CONNECTIONS = """
SELECT current_setting('max_connections')::int
        - current_setting('superuser_reserved_connections')::int
        - coalesce(current_setting('reserved_connections', true), '0')::int AS of_server,
    (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS used,
    (SELECT datconnlimit FROM pg_database WHERE datname = current_database()) AS of_database,
    (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user) AS of_role
"""
# What libpq says of a connection that was not made, and what to do then. Its text is not shown.
_REASONS = {
    "password authentication failed": (
        "it refuses the password",
        "Mend user and password in NILOMETER_DATABASE_URL.",
    ),
    "no password supplied": (
        "it wants a password",
        "Put the password into NILOMETER_DATABASE_URL.",
    ),
    "does not exist": (
        "it has no such database or role",
        "Create the database and its role: nothing else makes them.",
    ),
    "no pg_hba.conf entry": (
        "it takes no connection of this role from here",
        "Add a line for it to the server's pg_hba.conf.",
    ),
    "too many": ("it has no connection left", "Raise its max_connections, or use a pooler."),
    "certificate verify failed": (
        "its certificate is not trusted",
        "Name who signed it: ?sslmode=verify-full&sslrootcert=FILE in NILOMETER_DATABASE_URL.",
    ),
    "SSL": ("TLS cannot be agreed on", "Mend sslmode in NILOMETER_DATABASE_URL."),
    "Connection refused": ("nothing listens there", _REMEDY),
    "failed to resolve": ("its name is not known", _REMEDY),
    "not known": ("its name is not known", _REMEDY),
    "timeout": ("it does not answer", _REMEDY),
}


class Postgres:
    """The database of the distributed profile; every role needs it."""

    def __init__(self, url: str | None, seconds: float) -> None:
        self._url = _impatient(url, seconds) if url else None

    def checks(self) -> list[Check]:
        """The checks of this part."""
        first = () if self._url else (SETTINGS,)
        after = (SERVER,)
        return [
            Check(SERVER, self.server, needs=first, remedy=_REMEDY),
            Check("database.role", self.role, needs=after, remedy=_REMEDY),
            Check("database.migrations", self.migrations, needs=after, remedy=_REMEDY),
            Check("database.connections", self.connections, needs=after, remedy=_REMEDY),
            Check("database.clock", self.clock, needs=after, remedy=_REMEDY),
        ]

    def server(self) -> Verdict:
        """A connection can be made, to a version that will do."""
        with self._opened() as database:
            where = f"{database.url.host}:{database.url.port or 5432}"
            try:
                found = _row(
                    database,
                    "SELECT current_setting('server_version_num')::int / 10000 AS version",
                )
            except DatabaseUnavailable as error:
                why, remedy = _reason(error)
                return failed(f"PostgreSQL at {where} cannot be used: {why}.", remedy)
        if found["version"] < _LEAST_VERSION:
            return failed(
                f"The server at {where} is PostgreSQL {found['version']}.",
                f"Use PostgreSQL {_LEAST_VERSION} or newer.",
            )
        return ok(f"PostgreSQL {found['version']} answers at {where}.")

    def role(self) -> Verdict:
        """The role may write, and is held by row-level security."""
        with self._opened() as database:
            found = _row(database, _ROLE)
        name = found["name"]
        verdicts = [*self._fence(found), *self._rights(found)]
        return together(
            verdicts, f"The role {name} may write, and row-level security holds for it."
        )

    def _fence(self, found: dict[str, Any]) -> list[Verdict]:
        verdicts: list[Verdict] = []
        name = found["name"]
        if found["rolsuper"] or found["rolbypassrls"]:
            verdicts.append(
                warning(
                    f"The role {name} is a superuser or has BYPASSRLS: the second fence between "
                    "tenants does not hold for it.",
                    "Connect as a role that owns the database and is neither "
                    f"(ALTER ROLE {name} NOSUPERUSER NOBYPASSRLS).",
                )
            )
        if found["unfenced"]:
            verdicts.append(
                failed(
                    f"Row-level security was switched off on {found['unfenced']} tables.",
                    "ALTER TABLE … ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY on each "
                    "that has the policy `tenant`.",
                )
            )
        return verdicts

    def _rights(self, found: dict[str, Any]) -> list[Verdict]:
        name = found["name"]
        if found["standby"] or found["read_only"]:
            return [
                failed(
                    "The server takes no writes: it is a standby, or read-only by default.",
                    "Name the primary in NILOMETER_DATABASE_URL (target_session_attrs=read-write).",
                )
            ]
        if found["lacking"]:
            return [
                failed(
                    f"The role {name} lacks rights on tables of Nilometer.",
                    "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO "
                    f"{name}, or make it their owner.",
                )
            ]
        return []

    def migrations(self) -> Verdict:
        """The tables are those of this release. Nothing is migrated."""
        with self._opened() as database:
            state = standing(database)
            may_create = _row(database, _ROLE)["may_create"]
        return judged(state, may_create=bool(may_create), movable=True)

    def connections(self) -> Verdict:
        """Room for the pool of one more process."""
        with self._opened() as database:
            found = _row(database, _CONNECTIONS)
        limits = [found[name] for name in ("of_server", "of_database", "of_role")]
        limit = min(each for each in limits if each >= 0)
        used = found["used"] - 1  # ours
        remedy = (
            "Raise max_connections (or the limit of the role or the database), or put a pooler "
            "in session mode before it."
        )
        if limit < CONNECTIONS:
            found_text = f"It allows {limit} connections; a process opens up to {CONNECTIONS}."
            return failed(found_text, remedy)
        if limit - used < CONNECTIONS:
            return warning(
                f"{used} of {limit} connections are taken; a process opens up to {CONNECTIONS}.",
                remedy,
            )
        return ok(
            f"{used} of {limit} connections are taken: there is room for "
            f"{(limit - used) // CONNECTIONS} more processes of {CONNECTIONS}."
        )

    def clock(self) -> Verdict:
        """The server's clock."""
        with self._opened() as database, database.read(EVERY_ROW) as session:
            asked = text("SELECT extract(epoch FROM clock_timestamp())::float8")
            before = clocks.local()
            told = session.execute(asked).scalar_one()
            after = clocks.local()
        return clocks.judged("PostgreSQL", clocks.skew(told, before, after))

    @contextmanager
    def _opened(self) -> Generator[Database]:
        assert self._url is not None, "the checks need the setting"
        with closing(Database(self._url)) as database:
            yield database


def judged(state: Standing, *, may_create: bool = True, movable: bool = False) -> Verdict:
    """What the version of a database's tables means, on either profile. `movable`: an embedded
    server can be moved to it."""
    match state.name:
        case "current":
            return ok(f"The tables are those of this release (revision {state.head}).")
        case "ahead":
            return ok(
                f"A newer release has expanded the tables (revision {state.revision}, this one's "
                f"is {state.head}): this one runs on them."
            )
        case "empty":
            found = "There are no tables yet."
        case _:
            found = f"The tables are of revision {state.revision}; this release's is {state.head}."
    if not may_create:
        return failed(
            f"{found} The role may not make any.",
            "Make it the owner of the database, or GRANT CREATE ON SCHEMA public to it, for the "
            "first start of this release.",
        )
    return warning(found, FIRST_START_OR_MOVE if movable and state.name == "empty" else FIRST_START)


def _impatient(url: str, seconds: float) -> str | None:
    """With less patience than a check has, so that the reason is told and not only that there was
    no answer; None for what is no URL, which the check of the settings tells."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        return None
    patient = parsed.update_query_dict({"connect_timeout": str(max(2, int(seconds) - 1))})
    return patient.render_as_string(hide_password=False)


def _row(database: Database, statement: str) -> dict[str, Any]:
    with database.read(EVERY_ROW) as session:
        return dict(session.execute(text(statement)).mappings().one())


def _reason(error: DatabaseUnavailable) -> tuple[str, str]:
    cause = error.__cause__
    said = str(cause.orig) if isinstance(cause, DBAPIError) else ""
    for part, answer in _REASONS.items():
        if part in said:
            return answer
    return error.detail.rpartition(": ")[2], _REMEDY
