"""`python -m nilometer.doctor.engine_process PATH`: opens chDB over a directory and prints, as one
line of JSON, the record of the store's migrations there. Nothing is made or changed."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from pathlib import Path

from nilometer.clickhouse.address import DATABASE
from nilometer.clickhouse.embedded import open_reader
from nilometer.doctor.clickhouse_schema import RECORD


def main(path: Path) -> None:
    """Ask, and print the answer."""
    record: list[dict[str, object]] = []
    with closing(open_reader(path)) as client:
        named = client.query(
            "SELECT count() FROM system.tables "
            "WHERE database = {ours:String} AND name = 'schema_migrations'",
            {"ours": DATABASE},
        ).result_rows
        if named == [(1,)]:
            found = client.query(RECORD)
            record = [dict(zip(found.column_names, row, strict=True)) for row in found.result_rows]
    sys.stdout.write(json.dumps({"record": record}, default=str) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
