"""A process that inserts without end and says what is stored, until it is killed."""

import sys
import uuid
from datetime import UTC, datetime
from pathlib import Path

from nilometer.clickhouse.store import Store

ROWS = 200


def main(directory: str) -> None:
    store = Store(Path(directory))
    store.open()
    now = datetime.now(UTC)
    for number in range(1_000_000):
        rows = [
            {
                "project_id": number,
                "uuid": str(uuid.uuid4()),
                "event": "$ai_span",
                "timestamp": now,
                "accepted_at": now,
                "expires_at": now,
                "properties": "a prompt " * 1000,
            }
            for _ in range(ROWS)
        ]
        store.insert("events", rows)
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
