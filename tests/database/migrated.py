"""A migrated database file for tests, made once a process and copied, because a copy is fast."""

import shutil
import tempfile
from functools import cache
from pathlib import Path

from nilometer.database.engine import Database
from nilometer.database.migrate import migrate


@cache
def _template() -> bytes:
    folder = Path(tempfile.mkdtemp(prefix="nilometer-template-"))
    try:
        database = Database(f"sqlite:///{folder}/template.db")
        migrate(database)
        database.close()
        return (folder / "template.db").read_bytes()
    finally:
        shutil.rmtree(folder)


def migrated(path: Path) -> Database:
    """An open database at this path, with every table and no row."""
    path.write_bytes(_template())
    return Database(f"sqlite:///{path}")
