"""The tables of the standalone store."""

from __future__ import annotations

from nilometer.importers.store.columns import GENERATED, STORED, STORED_NAMES

APPLICATION_ID = 0x4E494C4F
"""`NILO`, by which SQLite's own tools and we know the file."""
VERSION = 1

_CALLS = ",\n  ".join(column.sql for column in (*STORED, *GENERATED))

SCHEMA = (
    # The ids count up, and no call is ever deleted: how many were inserted is how far they went.
    f"""
CREATE TABLE sessions (
  id INTEGER PRIMARY KEY,
  {_CALLS},
  run_id INTEGER NOT NULL,
  UNIQUE (trace_hash)
)""",
    # One each time that traces were ingested. What it inserted or updated has its id.
    """
CREATE TABLE runs (
  id INTEGER PRIMARY KEY,
  started_at TEXT NOT NULL,
  ended_at TEXT,
  inserted INTEGER NOT NULL DEFAULT 0,
  updated INTEGER NOT NULL DEFAULT 0,
  duplicate INTEGER NOT NULL DEFAULT 0,
  rejected INTEGER NOT NULL DEFAULT 0
)""",
    # Which runs are in which folder of Parquet files, whole.
    """
CREATE TABLE exports (
  folder TEXT NOT NULL,
  run_id INTEGER NOT NULL,
  PRIMARY KEY (folder, run_id)
) WITHOUT ROWID""",
    # Where calls were before what is known of them changed: files there still have them.
    """
CREATE TABLE moves (
  repo_slug TEXT,
  event_date TEXT NOT NULL,
  trace_hash TEXT NOT NULL,
  run_id INTEGER NOT NULL
)""",
    """
CREATE TRIGGER sessions_moved AFTER UPDATE ON sessions
WHEN old.repo_slug IS NOT new.repo_slug OR old.event_date <> new.event_date
BEGIN
  INSERT INTO moves VALUES (old.repo_slug, old.event_date, old.trace_hash, new.run_id);
END""",
    # How far a source was read: committed with what was read.
    """
CREATE TABLE checkpoints (
  source TEXT NOT NULL PRIMARY KEY,
  document TEXT NOT NULL,
  updated_at TEXT NOT NULL
) WITHOUT ROWID""",
    """
CREATE TABLE dead_letters (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  reason TEXT NOT NULL,
  detail TEXT NOT NULL,
  source TEXT NOT NULL,
  source_hash TEXT NOT NULL,
  line INTEGER,
  byte_offset INTEGER NOT NULL,
  raw BLOB NOT NULL,
  raw_bytes INTEGER NOT NULL,
  first_seen TEXT NOT NULL,
  attempts INTEGER NOT NULL DEFAULT 1,
  UNIQUE (source_hash, byte_offset, source)
)""",
)

_PLACES = ", ".join("?" * (len(STORED_NAMES) + 1))
_CHANGED = ", ".join(f"{name} = ?" for name in (*STORED_NAMES, "run_id"))

INSERT = f"""
INSERT INTO sessions ({", ".join(STORED_NAMES)}, run_id) VALUES ({_PLACES})
ON CONFLICT (trace_hash) DO NOTHING"""  # noqa: S608  (our own names)
KNOWN = f"SELECT id, {', '.join(STORED_NAMES)} FROM sessions WHERE trace_hash = ?"  # noqa: S608
UPDATE = f"UPDATE sessions SET {_CHANGED} WHERE trace_hash = ?"  # noqa: S608
