"""A process that stores rows, lets every fsync fail from then on, and asks for merges.

Prints, as JSON and by table, the error of the merge and the rows that are there after it.
"""

import errno
import json
import sys
from datetime import UTC, datetime
from pathlib import Path

from nilometer.clickhouse.errors import engine_error
from nilometer.clickhouse.store import DATABASE, Store
from tests.log.faults import fail_calls

PARTS = 3
_IDENTITY = "00000000-0000-4000-8000-00000000000{}"


def fill(store: Store) -> None:
    now = datetime.now(UTC)
    fixed = {"project_id": 1, "timestamp": now, "accepted_at": now}
    for number in range(PARTS):
        uuid = {"uuid": _IDENTITY.format(number)}
        store.insert("events", [fixed | uuid | {"event": "x", "expires_at": now}])
        store.insert("event_ids", [fixed | uuid | {"expires_at": now}])
        call = {"event_uuid": uuid["uuid"], "call_id": f"c{number}", "revision": 1}
        store.insert("calls", [fixed | call])
        day = {"project_id": 1, "kind": "days", "day": f"2025-07-{number + 1:02}"}
        store.insert("usage_days", [day])
        store.insert("schema_migrations", [{"version": 1000 + number}])


def main(directory: Path) -> None:
    store = Store(directory)
    store.open()
    tables = [
        name
        for (name,) in store.query(
            "SELECT name FROM system.tables WHERE database = {database:String}",
            {"database": DATABASE},
        ).rows
    ]
    for table in tables:
        store.command(f"SYSTEM STOP MERGES {table}")
    fill(store)
    fail_calls("fsync", "fdatasync", error=errno.EIO)
    found = {}
    for table in tables:
        store.command(f"SYSTEM START MERGES {table}")
        refused = ""
        with store._reading() as client:
            try:
                client.command(f"OPTIMIZE TABLE {table} FINAL")
            except Exception as error:
                refused = engine_error(error)[1]
        ((rows,),) = store.query(f"SELECT count() FROM {table}").rows
        found[table] = {"refused": refused, "rows": rows}
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
