"""Brings the store's schema up to date: numbered SQL files, each run once, in order.

A migration only adds (expand); what a release no longer needs is dropped by a later one
(contract), because a rolling upgrade always has two versions running. So a schema that is newer
than this process is fine, unless a migration that was run says that it serves older releases no
more: the line `-- min_compatible: 0007` in a file that drops means that a process must know
migration 7 at least, which is the one of the release that stopped to use what is dropped.

ClickHouse has no transactions over DDL: every statement is written so that it may run again
(`IF NOT EXISTS`), and a migration counts as run once it is recorded.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import re
from collections.abc import Generator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from nilometer.clickhouse.engine import Reader
from nilometer.clickhouse.layout import SINGLE, Layout
from nilometer.errors import ConfigurationError

# A cluster's variants of them are made of these: see `layout`.
ENGINES = {"replacing": "ReplacingMergeTree", "plain": "MergeTree"}
_FILE = re.compile(r"(\d{4})_(\w+)\.sql")
_MIN_COMPATIBLE = re.compile(r"^-- min_compatible: (\d{4})$", re.MULTILINE)
_RECORD = """
CREATE TABLE IF NOT EXISTS schema_migrations
(version UInt32, name String, checksum String, applied_at DateTime64(6, 'UTC') DEFAULT now64(6))
ENGINE = ${plain} ORDER BY version
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1,
    min_compressed_bytes_to_fsync_after_merge = 1, old_parts_lifetime = 480
"""
# What a table of before lacks; processes of before name the columns that they write.
_WITH_COMPATIBLE = """
ALTER TABLE schema_migrations ADD COLUMN IF NOT EXISTS min_compatible UInt32 DEFAULT 0
"""


class SchemaBehind(ConfigurationError):
    """Tables of this release are missing, and nobody was to make them."""

    code = "schema_behind"


class SchemaTooNew(ConfigurationError):
    """A newer release has dropped what this one needs."""

    code = "schema_too_new"


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file. `checksum` is the SHA-256 of its text."""

    version: int
    name: str
    text: str
    checksum: str

    def statements(self) -> list[str]:
        """Its statements, engine names filled in; a line that ends in `;` ends a statement."""
        text = Template(self.text).substitute(ENGINES)
        return [part for part in (part.strip() for part in text.split(";\n")) if part]

    @property
    def min_compatible(self) -> int:
        """The newest migration that a process must know to go on after this one; 0 for any."""
        found = _MIN_COMPATIBLE.search(self.text)
        return int(found[1]) if found else 0


def migrations() -> list[Migration]:
    """The migrations of this release, in order."""
    found: list[Migration] = []
    for entry in resources.files("nilometer.clickhouse.schema").iterdir():
        match = _FILE.fullmatch(entry.name)
        if match:
            text = entry.read_text(encoding="utf-8")
            checksum = hashlib.sha256(text.encode()).hexdigest()
            found.append(Migration(int(match[1]), match[2], text, checksum))
    return sorted(found, key=lambda migration: migration.version)


def migrate(
    client: Reader, *, lock: AbstractContextManager[None], layout: Layout = SINGLE
) -> list[int]:
    """Run what is missing in the client's default database; return the versions that were run.

    Safe when several threads or processes start at once: one has the lock and runs, the others wait
    for it. Raises ConfigurationError when a migration that was run has another text now, and
    SchemaTooNew.
    """
    with lock:
        client.command(layout.rendered(Template(_RECORD).substitute(ENGINES)))
        missing = pending(client)
        if missing:
            client.command(layout.rendered(_WITH_COMPATIBLE.strip()))
        for migration in missing:
            for statement in migration.statements():
                client.command(layout.rendered(statement))
            client.command(
                "INSERT INTO schema_migrations (version, name, checksum, min_compatible) "
                "VALUES ({version:UInt32}, {name:String}, {checksum:String}, {needed:UInt32})",
                parameters={
                    "version": migration.version,
                    "name": migration.name,
                    "checksum": migration.checksum,
                    "needed": migration.min_compatible,
                },
            )
        return [migration.version for migration in missing]


def pending(client: Reader) -> list[Migration]:
    """The migrations that are still to run, of a database that has the table of those that were.

    Raises ConfigurationError when one that was run has another text now, and SchemaTooNew.
    """
    recorded, ours = _recorded(client), migrations()
    newest = max((each.version for each in ours), default=0)
    needed = max((int(row.get("min_compatible", 0)) for row in recorded), default=0)
    if needed > newest:
        raise SchemaTooNew(
            f"the store serves releases that know its migration {needed:04}, and this one knows "
            f"{newest:04}: upgrade it"
        )
    checksums = {int(row["version"]): str(row["checksum"]) for row in recorded}
    return [each for each in ours if not _is_run(each, checksums)]


def require_run(client: Reader) -> None:
    """Raises SchemaBehind where a migration of this release is still to run, and as `pending`."""
    recorded = client.query("EXISTS TABLE schema_migrations").result_rows
    if recorded != [(1,)] or pending(client):
        raise SchemaBehind("the store lacks migrations of this release")


def versions(client: Reader) -> tuple[int, int]:
    """The newest migration that was run, and the newest of this release."""
    run = max((int(row["version"]) for row in _recorded(client)), default=0)
    return run, max((each.version for each in migrations()), default=0)


@contextlib.contextmanager
def file_lock(path: Path) -> Generator[None]:
    """The lock of a store that is on this machine."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _recorded(client: Reader) -> list[dict[str, Any]]:
    """The rows by column, of which an older table has fewer."""
    found = client.query("SELECT * FROM schema_migrations")
    return [dict(zip(found.column_names, row, strict=True)) for row in found.result_rows]


def _is_run(migration: Migration, recorded: dict[int, str]) -> bool:
    checksum = recorded.get(migration.version)
    if checksum is not None and checksum != migration.checksum:
        raise ConfigurationError(
            f"migration {migration.version:04} of the store ({migration.name}) was run with "
            "another text than this release has; restore the file, or start on an empty store"
        )
    return checksum is not None
