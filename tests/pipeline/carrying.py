"""A process that appends events once, carries them to the store, says what is there, and ends."""

import sys
from pathlib import Path

from nilometer import failpoints
from nilometer.clickhouse.store import Store
from nilometer.database.engine import Database
from nilometer.database.migrate import migrate
from nilometer.log.sqlite import SqliteLog
from nilometer.pipeline.dead_letters import DeadLetters
from nilometer.pipeline.pipeline import Pipeline
from tests.pipeline.records import envelope

EVENTS = 60


def main(directory: Path, points: str) -> None:
    log = SqliteLog(
        directory / "log",
        segment_bytes=1 << 24,
        max_bytes=1 << 30,
        keep_seconds=3600,
        disk_reserve=0,
        rewind_seconds=3600,
    )
    if log.state().depth == 0:
        for number in range(EVENTS):
            log.append_blocking(envelope(1, f"00000000-0000-4000-8000-0000000000{number:02}"))
    database = Database(f"sqlite:///{directory / 'nilometer.db'}")
    migrate(database)
    store = Store(directory / "store")
    store.open()
    failpoints.configure(points)
    pipeline = Pipeline(
        log=log, store=store, dead_letters=DeadLetters(database), batch_records=20, linger=0
    )
    while log.state().groups.get("store") is None or log.state().groups["store"].records:
        pipeline.run_once(1)
    pipeline.stop(1)
    counts = [
        "{} {} {}".format(
            table, *store.query(f"SELECT count(), uniqExact({key}) FROM {table} FINAL").rows[0]
        )
        for table, key in (("events", "uuid"), ("event_ids", "uuid"), ("calls", "event_uuid"))
    ]
    store.close()
    database.close()
    log.close()
    sys.stdout.write(", ".join(counts) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
