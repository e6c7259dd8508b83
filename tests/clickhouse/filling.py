"""A process that inserts until the disk is full, makes room, and inserts again; prints what it saw.

Its directory holds a file `ballast`, which it deletes to make room.
"""

import json
import os
import sys
import uuid
from datetime import UTC, datetime
from pathlib import Path

from nilometer.clickhouse.store import Store, StoreUnavailable

ROWS = 20


def rows() -> list[dict[str, object]]:
    now = datetime.now(UTC)
    fixed = {"project_id": 1, "event": "x", "timestamp": now, "accepted_at": now, "expires_at": now}
    return [
        fixed | {"uuid": str(uuid.uuid4()), "properties": os.urandom(50_000).hex()}
        for _ in range(ROWS)
    ]


def main(directory: Path) -> None:
    store = Store(directory / "store")
    store.open()
    acknowledged, refused = 0, ""
    while not refused and acknowledged < 200 * ROWS:
        try:
            store.insert("events", rows())
            acknowledged += ROWS
        except StoreUnavailable as error:
            refused = error.detail
    full = {"refused": refused, "ready": store.ready()}
    (directory / "ballast").unlink()
    store.insert("events", rows())
    acknowledged += ROWS
    ((stored,),) = store.query("SELECT count() FROM events").rows
    store.close()
    found = full | {"acknowledged": acknowledged, "stored": stored}
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
