"""A process that writes one partition until it is killed, and says what it was promised."""

import os
from pathlib import Path

import pyarrow.compute  # before the fork that makes this process
import pyarrow.parquet  # noqa: F401

from nilometer.importers.parquet.partition import Partition, add
from nilometer.importers.store import TraceStore
from nilometer.importers.store.columns import SELECTED
from tests.importers.rows import row

PLACE = Partition("acme/river", "2026-11-02")
BATCH = 5


def exported(folder, names):
    """Rows as an export reads them from a store."""
    path = folder / f"{os.getpid()}-{names[0]}.db"
    with TraceStore(path) as store:
        with store.run() as run:
            run.keep([row(name) for name in names])
        found = store.database.execute(
            f"SELECT {SELECTED} FROM sessions ORDER BY trace_hash"
        ).fetchall()
    path.unlink()
    return found


def hammer(root, promised, template):
    """Adds new calls in a loop; what an `add` returned for is written to the file `promised`."""
    number = 0
    with Path(promised).open("a") as told:
        while True:
            names = [f"{os.getpid()}-{number}-{place}" for place in range(BATCH)]
            rows = [(f"prodlens:{name}", *template[1:]) for name in names]
            add(Path(root), PLACE, rows, frozenset())
            told.write("".join(f"prodlens:{name}\n" for name in names))
            told.flush()
            number += 1
