"""A process that opens a store, prints rows by project and the tables' health as JSON, and ends."""

import json
import sys
from pathlib import Path

from nilometer.clickhouse.store import Store


def main(directory: str) -> None:
    store = Store(Path(directory))
    store.open()
    rows = store.query("SELECT project_id, count() FROM events GROUP BY project_id").rows
    single = {"check_query_single_value_result": 1}
    ((healthy,),) = store.query("CHECK TABLE events", settings=single).rows
    store.close()
    sys.stdout.write(json.dumps({"rows": dict(rows), "healthy": bool(healthy)}))


if __name__ == "__main__":
    main(sys.argv[1])
