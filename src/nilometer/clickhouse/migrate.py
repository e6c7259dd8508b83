"""Brings the store's schema up to date: numbered SQL files, each run once, in order.

A migration only adds (expand); what a release no longer needs is dropped by a later one
(contract), because a rolling upgrade always has two versions running. So a schema that is newer
than this process is fine. ClickHouse has no transactions over DDL: every statement is written so
that it may run again (`IF NOT EXISTS`), and a migration counts as run once it is recorded.
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
from typing import cast

from nilometer.clickhouse.engine import Reader
from nilometer.clickhouse.layout import SINGLE, Layout
from nilometer.errors import ConfigurationError

# A cluster's variants of them are made of these: see `layout`.
ENGINES = {"replacing": "ReplacingMergeTree", "plain": "MergeTree"}
_FILE = re.compile(r"(\d{4})_(\w+)\.sql")
_RECORD = """
CREATE TABLE IF NOT EXISTS schema_migrations
(version UInt32, name String, checksum String, applied_at DateTime64(6, 'UTC') DEFAULT now64(6))
ENGINE = ${plain} ORDER BY version
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1,
    min_compressed_bytes_to_fsync_after_merge = 1, old_parts_lifetime = 480
"""


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
    for it. Raises ConfigurationError when a migration that was run has another text now.
    """
    with lock:
        client.command(layout.rendered(Template(_RECORD).substitute(ENGINES)))
        missing = pending(client)
        for migration in missing:
            for statement in migration.statements():
                client.command(layout.rendered(statement))
            client.command(
                "INSERT INTO schema_migrations (version, name, checksum) "
                "VALUES ({version:UInt32}, {name:String}, {checksum:String})",
                parameters={
                    "version": migration.version,
                    "name": migration.name,
                    "checksum": migration.checksum,
                },
            )
        return [migration.version for migration in missing]


def pending(client: Reader) -> list[Migration]:
    """The migrations that are still to run, of a database that has the table of those that were.

    Raises ConfigurationError when one that was run has another text now.
    """
    recorded = _recorded(client)
    return [each for each in migrations() if not _is_run(each, recorded)]


@contextlib.contextmanager
def file_lock(path: Path) -> Generator[None]:
    """The lock of a store that is on this machine."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _recorded(client: Reader) -> dict[int, str]:
    rows = client.query("SELECT version, checksum FROM schema_migrations").result_rows
    return dict(cast("list[tuple[int, str]]", rows))


def _is_run(migration: Migration, recorded: dict[int, str]) -> bool:
    checksum = recorded.get(migration.version)
    if checksum is not None and checksum != migration.checksum:
        raise ConfigurationError(
            f"migration {migration.version:04} of the store ({migration.name}) was run with "
            "another text than this release has; restore the file, or start on an empty store"
        )
    return checksum is not None
