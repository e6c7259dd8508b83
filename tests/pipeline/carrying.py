"""A process that appends events once, alone and in batches, carries them to the store, says what is
there, and ends."""

import sys
from pathlib import Path

import orjson

from nilometer import failpoints
from nilometer.blobs.store import open_store
from nilometer.clickhouse.store import Store
from nilometer.database.engine import Database
from nilometer.database.migrate import migrate
from nilometer.domain import clock
from nilometer.log.sqlite import SqliteLog
from nilometer.pipeline.dead_letters import DeadLetters
from nilometer.pipeline.packing import Packer
from nilometer.pipeline.pipeline import Pipeline
from nilometer.pipeline.rewriting.unpacking import NotUnpacked, unpack
from tests.pipeline.records import batch_envelope, envelope

EVENTS = 60
_UUID = "00000000-0000-4000-8000-0000000000"
NOW = clock.to_micros(clock.now())
LARGE = {"$ai_input": "How high is the river? " * 100}
_EVENT = {"event": "$ai_generation", "distinct_id": "d", "properties": {}}


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
        for number in range(0, EVENTS, 4):
            first, *others = (f"{_UUID}{number + offset:02}" for offset in range(4))
            log.append_blocking(envelope(1, first, accepted_at=NOW, properties=LARGE))
            events = [(each, _EVENT) for each in others]
            record = f"{_UUID}{number:02}"
            log.append_blocking(batch_envelope(1, record, events, accepted_at=NOW))
    database = Database(f"sqlite:///{directory / 'nilometer.db'}")
    migrate(database)
    store = Store(directory / "store")
    store.open()
    failpoints.configure(points)
    blobs = open_store((directory / "blobs").as_uri(), bucket="nilometer")
    pipeline = Pipeline(
        log=log,
        store=store,
        dead_letters=DeadLetters(database),
        batch_records=10,
        linger=0,
        pack=Packer(blobs, above=1000).lines,
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
    packed = store.query("SELECT * FROM events FINAL WHERE packed != '[]'").dicts()
    whole = [row for row in unpack(packed, blobs) if not isinstance(row, NotUnpacked)]
    found = sum(orjson.loads(row["properties"]) == LARGE for row in whole)
    counts.append(f"put back {found} of {len(packed)}")
    blobs.close()
    store.close()
    database.close()
    log.close()
    sys.stdout.write(", ".join(counts) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
