"""Deletes every row of one project from every table, for good.

`ALTER TABLE … DELETE` rewrites the parts that hold such rows and passes over the others. The
engine keeps the statement on disk and goes on with it after a crash; the files of the old parts
are unlinked by the engine some minutes after they were replaced. On a cluster each host does it.
"""

from __future__ import annotations

import threading

from nilometer.clickhouse.store import DATABASE, Store, StoreUnavailable

# Asked of the engine, so that a table of a later version is not forgotten.
_TABLES = """
SELECT name FROM system.tables
WHERE database = {database:String} AND engine LIKE '%MergeTree'
  AND name IN (SELECT table FROM system.columns
               WHERE database = {database:String} AND name = 'project_id')
ORDER BY name != 'events', name
"""
_UNDONE = """
SELECT count(), any(latest_fail_reason) != '' FROM {mutations}
WHERE database = {database:String} AND table = {table:String} AND NOT is_done
"""
_FIRST_POLL_SECONDS = 0.01  # few rows are deleted at once
_POLL_SECONDS = 0.1


def erase_project(store: Store, project_id: int, stopping: threading.Event) -> int:
    """Delete a project's rows and return how many there were. Blocks until no table has one.

    Raises StoreUnavailable, also when `stopping` is set before the end.
    """
    tables = [row[0] for row in store.query(_TABLES, {"database": DATABASE}).rows]
    return sum(_erase(store, table, project_id, stopping) for table in tables)


def _erase(store: Store, table: str, project_id: int, stopping: threading.Event) -> int:
    """`table` is a name that the engine gave."""
    project = {"project": project_id}
    count = f"SELECT count() FROM {table} WHERE project_id = {{project:Int64}}"  # noqa: S608
    found: int = store.query(count, project).rows[0][0]
    if found:
        store.command(f"ALTER TABLE {table} DELETE WHERE project_id = {{project:Int64}}", project)
    _await(store, table, stopping)
    return found


def _await(store: Store, table: str, stopping: threading.Event) -> None:
    undone_mutations = _UNDONE.replace("{mutations}", store.everywhere("system.mutations"))
    pause = _FIRST_POLL_SECONDS
    while True:
        undone, failing = store.query(
            undone_mutations, {"database": DATABASE, "table": table}
        ).rows[0]
        if not undone:
            return
        if failing:
            raise StoreUnavailable(f"the rows of {table} cannot be deleted now")
        if stopping.wait(pause):
            raise StoreUnavailable("the store is being closed")
        pause = min(2 * pause, _POLL_SECONDS)
