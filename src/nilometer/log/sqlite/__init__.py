"""The embedded log: SQLite files of consecutive records, one writer, group commit.

A directory holds:

- `{base offset, 20 digits}.sqlite`: the segments, with `-wal` and `-shm` beside those in use;
- `groups.sqlite`: how far each consumer group has come;
- `clean`: the marker of a clean stop, absent while the log is open;
- `lock`: held while the log is open.
"""

from nilometer.log.sqlite.log import SqliteLog
from nilometer.log.sqlite.segment import LogCorrupt

__all__ = ["LogCorrupt", "SqliteLog"]
