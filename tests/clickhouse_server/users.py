"""Who may use the fixture, and for what: a stand-in for users, grants and settings profiles."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from tests.clickhouse_server.faults import Refused


class Access(Enum):
    """What a user may do; each may do what those before it may. The first sees the tables of
    projects through row policies: without the setting that names the project a query fails."""

    FENCED = -1
    READ = 0
    WRITE = 1
    ALL = 2


@dataclass(frozen=True, slots=True)
class User:
    """A name, its password and its access."""

    name: str
    password: str
    access: Access

    @classmethod
    def parse(cls, text: str) -> User:
        """`name:password:access`, as the command line has it."""
        name, password, access = text.split(":")
        return cls(name, password, Access[access.upper()])


# What starts a statement that needs more than reading. A mutation of rows is writing.
_DEFINES = re.compile(
    r"\s*(?:CREATE|DROP|RENAME|EXCHANGE|TRUNCATE|ALTER(?!\s+TABLE\s+\S+\s+(?:DELETE|UPDATE)\b))\b",
    re.IGNORECASE,
)
_WRITES = re.compile(r"\s*(?:INSERT|ALTER|OPTIMIZE|SYSTEM|KILL|DELETE)\b", re.IGNORECASE)


def authenticated(users: Mapping[str, User], name: str, password: str) -> User:
    """The user of these credentials. Raises Refused, which does not say what of them is wrong."""
    user = users.get(name or "default")
    if user is None or user.password != password:
        raise Refused(
            516,
            "AUTHENTICATION_FAILED",
            f"{name}: Authentication failed: password is incorrect, or there is no user with such "
            "name.",
            status=403,
        )
    return user


_FENCED_TABLES = re.compile(r"\bnilometer\.(?:events|event_ids|calls)\b")


def check(user: User, statement: str, *, names_project: bool) -> None:
    """Raises Refused when the user may not run the statement; `names_project` tells whether the
    request has the setting that row policies read."""
    needed = Access.FENCED
    if _DEFINES.match(statement):
        needed = Access.ALL
    elif _WRITES.match(statement):
        needed = Access.WRITE
    if user.access.value < needed.value:
        raise Refused(497, "ACCESS_DENIED", f"{user.name}: Not enough privileges.", status=403)
    if user.access is Access.FENCED and _FENCED_TABLES.search(statement) and not names_project:
        raise Refused(115, "UNKNOWN_SETTING", "Unknown setting 'SQL_nilometer_project'")
