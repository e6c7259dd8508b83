"""The standalone store of trace files: one SQLite file with calls, checkpoints and dead letters.

    with TraceStore(Path("traces.db")) as store:
        counts = store.keep(rows, letters, checkpoint)

Any number of processes may use one file at once: it is in WAL mode, and a writer waits for others.
"""

from nilometer.importers.store.store import TraceStore

__all__ = ["TraceStore"]
