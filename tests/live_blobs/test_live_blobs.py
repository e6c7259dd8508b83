"""Sweeps over a real log, database, store and directory: whose blob stays, and whose goes."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from nilometer import failpoints
from nilometer.blobs.store import BlobStore, open_store
from nilometer.blobs.sweeper import SweepCounts, Sweeper
from nilometer.blobs.types import BlobPart
from nilometer.clickhouse.store import Store
from nilometer.database.engine import Database
from nilometer.database.migrate import migrate
from nilometer.domain import clock
from nilometer.domain.ai_record import BlobReference
from nilometer.live_blobs import LiveBlobs
from nilometer.log.port import Lag, LogState
from nilometer.log.sqlite import SqliteLog
from nilometer.pipeline.dead_letters import DeadLetters
from nilometer.pipeline.packing import Packer
from nilometer.pipeline.pipeline import Pipeline
from tests.pipeline.records import envelope
from tests.projects import new_project_id
from tests.query import rows

AGE = timedelta(days=3)
GROUP = "store"
LARGE = f'{{"$ai_input":"{"How high is the river? " * 100}"}}'


@dataclass
class River:
    """The parts from the log to the blobs. What is sent was accepted and uploaded three days ago,
    late in the UTC day, at a microsecond that no coarser time hits."""

    directory: Path
    store: Store
    log: SqliteLog
    letters: DeadLetters
    blobs: BlobStore
    pipeline: Pipeline
    project_id: int

    def upload(self, uuid: str, accepted_at: int | None = None) -> BlobReference:
        at = ACCEPTED_AT if accepted_at is None else accepted_at
        part = BlobPart("$ai_input", "text/plain", None, [b"How high is the river?"])
        [reference] = asyncio.run(self.blobs.put(self.project_id, uuid, at, 30, [part]))
        path = self.path(reference)
        os.utime(path, (at / 1e6, at / 1e6))
        return reference

    def send(
        self, *, properties: str | None = None, timestamp: str | None = None, uuid: str = ""
    ) -> BlobReference:
        """An event with a blob: durable, and waiting in the log."""
        uuid = uuid or str(uuid4())
        reference = self.upload(uuid)
        self.log.append_blocking(
            envelope(
                self.project_id,
                uuid,
                accepted_at=ACCEPTED_AT,
                blobs=[reference],
                properties=properties,
                event={"timestamp": timestamp} if timestamp else None,
            )
        )
        return reference

    def send_large(self, uuid: str = "", *, properties: str = LARGE) -> str:
        """An event with a value that will be packed, waiting in the log. Returns its uuid."""
        uuid = uuid or str(uuid4())
        self.log.append_blocking(
            envelope(self.project_id, uuid, accepted_at=ACCEPTED_AT, properties=properties)
        )
        return uuid

    def packs(self) -> list[Path]:
        """The packs, each as if it had been uploaded when its events were accepted."""
        found = sorted((self.directory / "blobs").rglob("*.pack"))
        for path in found:
            os.utime(path, (ACCEPTED_AT / 1e6, ACCEPTED_AT / 1e6))
        return found

    def settle(self) -> None:
        while self.log.state().groups[GROUP].records:
            self.pipeline.run_once(0)

    def path(self, reference: BlobReference) -> Path:
        key = reference.url.removeprefix("file://nilometer/").partition("?")[0]
        return self.directory / "blobs" / key

    def exists(self, reference: BlobReference) -> bool:
        return self.path(reference).exists()

    def live_blobs(self, store: Store | None = None) -> LiveBlobs:
        return LiveBlobs(
            log=self.log, group=GROUP, dead_letters=self.letters, store=store or self.store
        )

    def sweep(self, store: Store | None = None) -> SweepCounts:
        live = self.live_blobs(store)
        return Sweeper(
            self.blobs, referenced=live.referenced, caught_up_to=live.caught_up_to
        ).sweep()


DAY = (datetime.now(UTC) - AGE).replace(hour=23, minute=59, second=59, microsecond=999_999)
ACCEPTED_AT = clock.to_micros(DAY)
BROKEN = '{"$ai_model": "m"'  # no door appends it: the pipeline dead-letters it


@pytest.fixture
def river(store: Store, tmp_path: Path) -> Iterator[River]:
    with ExitStack() as stack:
        database = stack.enter_context(closing(Database(f"sqlite:///{tmp_path}/nilometer.db")))
        migrate(database)
        blobs = stack.enter_context(
            closing(open_store((tmp_path / "blobs").as_uri(), bucket="nilometer"))
        )
        log = stack.enter_context(
            closing(
                SqliteLog(
                    tmp_path / "log",
                    segment_bytes=1 << 24,
                    max_bytes=1 << 30,
                    keep_seconds=3600,
                    disk_reserve=0,
                    rewind_seconds=3600,
                    clock=lambda: ACCEPTED_AT,
                )
            )
        )
        letters = DeadLetters(database)
        pipeline = Pipeline(
            log=log,
            store=store,
            dead_letters=letters,
            linger=0,
            dead_letter_share=1,
            pack=Packer(blobs, above=1000).lines,
        )
        stack.callback(pipeline.stop, 10)
        pipeline.run_once(0)
        yield River(tmp_path, store, log, letters, blobs, pipeline, new_project_id())


def only_letter(river: River) -> str:
    [letter] = river.letters.list(river.project_id).items
    return letter.id


def test_the_blob_of_a_stored_event_stays_and_an_orphan_goes(river: River) -> None:
    kept = river.send()
    river.settle()
    orphan = river.upload(str(uuid4()))

    assert river.sweep() == SweepCounts(expired=0, orphans=1, temporaries=0, complete=True)

    assert river.exists(kept)
    assert not river.exists(orphan)


def test_of_two_uploads_of_one_event_only_the_stored_one_stays(river: River) -> None:
    first = river.send()
    uuid = river.path(first).name.partition("_")[0]
    second = river.send(uuid=uuid)
    river.settle()

    assert river.sweep().orphans == 1

    assert river.exists(first)
    assert not river.exists(second)


@pytest.mark.parametrize("timestamp", ["1971-01-01T00:00:00Z", "2099-12-31T23:59:59.999999Z"])
def test_a_wrong_clock_of_the_client_does_not_cost_the_blob(river: River, timestamp: str) -> None:
    kept = river.send(timestamp=timestamp)
    river.settle()

    assert river.sweep().complete
    assert river.exists(kept)


def test_blobs_stay_among_many_events_of_their_day_and_of_others(river: River) -> None:
    days = [DAY + timedelta(days=shift) for shift in (-40, -1, 0, 0, 0, 1)]
    others = [
        rows.event_row(river.project_id, timestamp=day, accepted_at=day) for day in days * 1500
    ]
    rows.insert(river.store, others)
    kept = [river.send() for _ in range(30)]
    river.settle()
    orphans = [river.upload(str(uuid4())) for _ in range(5)]
    unnamed = [river.upload(other["uuid"]) for other in others[2:4]]

    assert river.sweep() == SweepCounts(expired=0, orphans=7, temporaries=0, complete=True)

    assert all(map(river.exists, kept))
    assert not any(map(river.exists, [*orphans, *unnamed]))


def test_the_first_and_the_last_microsecond_of_a_day_are_of_that_day(river: River) -> None:
    midnight = clock.to_micros(DAY.replace(hour=0, minute=0, second=0, microsecond=0))
    kept: list[BlobReference] = []
    for at in (midnight, ACCEPTED_AT):
        uuid = str(uuid4())
        kept.append(river.upload(uuid, at))
        river.log.append_blocking(
            envelope(river.project_id, uuid, accepted_at=at, blobs=[kept[-1]])
        )
    river.settle()

    assert river.sweep().complete
    assert all(map(river.exists, kept))


def test_a_stored_event_of_another_project_keeps_nothing(river: River) -> None:
    orphan = river.upload(str(uuid4()))
    uuid = river.path(orphan).name.partition("_")[0]
    river.log.append_blocking(
        envelope(new_project_id(), uuid, accepted_at=ACCEPTED_AT, blobs=[orphan])
    )
    river.settle()

    assert river.sweep().orphans == 1


def test_the_blob_of_a_waiting_event_stays_and_so_does_what_cannot_be_judged_yet(
    river: River,
) -> None:
    waiting = river.send()
    orphan = river.upload(str(uuid4()))

    assert river.sweep().orphans == 0

    assert river.exists(waiting)
    assert river.exists(orphan)


def test_the_blob_of_an_open_and_of_a_replayed_dead_letter_stays(river: River) -> None:
    kept = river.send(properties=BROKEN)
    river.settle()
    letter = only_letter(river)

    assert river.sweep() == SweepCounts(expired=0, orphans=0, temporaries=0, complete=True)
    assert river.exists(kept)

    river.letters.replay(river.project_id, letter, actor="ada", log=river.log)
    assert river.sweep().orphans == 0
    assert river.exists(kept)

    river.settle()
    assert river.sweep().orphans == 0
    assert river.exists(kept)


def test_the_blob_of_a_discarded_dead_letter_goes(river: River) -> None:
    unwanted = river.send(properties=BROKEN)
    river.settle()
    river.letters.discard(river.project_id, only_letter(river), actor="ada", reason="a test")

    assert river.sweep().orphans == 1
    assert not river.exists(unwanted)


def test_nothing_is_an_orphan_while_the_store_is_down(river: River) -> None:
    orphan = river.upload(str(uuid4()))
    down = Store(river.directory / "never-opened")

    assert river.sweep(down) == SweepCounts(expired=0, orphans=0, temporaries=0, complete=False)
    assert river.exists(orphan)


def test_nothing_is_an_orphan_while_the_database_is_down(river: River) -> None:
    orphan = river.upload(str(uuid4()))
    (river.directory / "nilometer.db").rename(river.directory / "away")
    (river.directory / "nilometer.db").mkdir()

    assert not river.sweep().complete
    assert river.exists(orphan)


@pytest.mark.parametrize("table", ["events", "event_ids"])
def test_what_a_loss_of_power_took_from_the_store_stays_while_it_is_read_again(
    river: River, table: str
) -> None:
    kept = river.send()
    river.settle()
    river.store.command(f"DELETE FROM {table} WHERE project_id = {river.project_id}")
    river.pipeline.stop(10)
    river.log.consumer(GROUP).rewind(0)

    assert river.sweep().orphans == 0
    assert river.exists(kept)


def test_a_lost_id_does_not_cost_the_blob_of_a_stored_event(river: River) -> None:
    kept = river.send()
    river.settle()
    river.store.command(f"DELETE FROM event_ids WHERE project_id = {river.project_id}")

    assert river.sweep().complete
    assert river.exists(kept)


def test_a_pack_that_any_stored_event_names_stays_and_one_that_none_names_goes(
    river: River,
) -> None:
    first = river.send_large()
    others = [river.send_large() for _ in range(3)]
    river.settle()
    [kept] = river.packs()
    # The event that the pack is named after is gone; the others need it.
    assert kept.name.startswith(first)
    river.store.command(
        f"DELETE FROM events WHERE project_id = {river.project_id} AND uuid = '{first}'"
    )
    orphan = kept.with_name(f"{others[0]}_{'0' * 32}.pack")
    orphan.write_bytes(b"left by a batch that was cut off")
    assert len(river.packs()) == 2

    assert river.sweep() == SweepCounts(expired=0, orphans=1, temporaries=0, complete=True)

    assert river.packs() == [kept]


def test_a_pack_of_a_row_whose_place_an_equal_one_took_stays(river: River) -> None:
    """Two processes with one batch: which row a reader sees is the engine's to choose."""
    river.send_large()
    river.settle()
    [pack] = river.packs()
    [row] = river.store.query(f"SELECT * FROM events WHERE project_id = {river.project_id}").dicts()
    again = row["packed"].replace(pack.name, other := f"{uuid4()}_{'1' * 32}.pack")
    river.store.insert("events", [row | {"packed": again}])
    pack.with_name(other).write_bytes(pack.read_bytes())
    assert len(river.packs()) == 2

    assert river.sweep().orphans == 0


def test_a_pack_that_another_project_or_another_day_names_goes(river: River) -> None:
    river.send_large()
    river.settle()
    [pack] = river.packs()
    foreign = river.directory / "blobs" / "llma" / str(new_project_id()) / pack.parent.name
    foreign.mkdir(parents=True)
    (foreign / pack.name).write_bytes(b"of nobody")
    earlier = pack.parent.with_name((DAY - timedelta(days=1)).date().isoformat())
    earlier.mkdir()
    (earlier / pack.name).write_bytes(b"of nobody")
    assert len(river.packs()) == 3

    assert river.sweep().orphans == 2
    assert river.packs() == [pack]


def test_the_pack_of_a_waiting_event_stays(river: River) -> None:
    """Its batch was packed and cut off before the insert; it comes again."""
    river.send_large()
    failpoints.configure("after_pack_put=error")
    try:
        with pytest.raises(failpoints.Fault):
            river.settle()
    finally:
        failpoints.configure("")
    [pack] = river.packs()

    assert river.sweep().orphans == 0
    river.settle()
    assert river.packs() == [pack]
    assert river.sweep().orphans == 0


def test_a_pack_of_an_event_whose_letter_may_be_replayed_stays(river: River) -> None:
    """It was packed alone, and then the store refused its row: a replay writes the same pack, and a
    sweep at that instant must not take it."""
    uuid = river.send_large(properties=BROKEN)
    river.settle()
    pack = river.directory / "blobs" / "llma" / str(river.project_id)
    pack = pack / DAY.date().isoformat() / f"{uuid}_{'0' * 32}.pack"
    pack.parent.mkdir(parents=True)
    pack.write_bytes(b"its value")
    assert river.packs() == [pack]

    assert river.sweep() == SweepCounts(expired=0, orphans=0, temporaries=0, complete=True)
    river.letters.discard(river.project_id, only_letter(river), actor="ada", reason="a test")
    assert river.sweep().orphans == 1


def test_many_packs_are_judged_at_once(river: River) -> None:
    river.send_large()
    river.settle()
    [kept] = river.packs()
    for _ in range(2500):
        kept.with_name(f"{uuid4()}_{uuid4().hex}.pack").touch()
    assert len(river.packs()) == 2501

    assert river.sweep().orphans == 2500
    assert river.packs() == [kept]


def test_progress_is_unknown_for_a_group_that_has_never_read(river: River) -> None:
    live = LiveBlobs(log=river.log, group="other", dead_letters=river.letters, store=river.store)
    assert live.caught_up_to() is None


def test_what_was_accepted_after_the_state_that_is_known_is_not_judged(
    river: River, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_of = 1_700_000_000_000_000
    state = LogState(True, "", 0, None, {GROUP: Lag(0, None)}, as_of=as_of)
    monkeypatch.setattr(river.log, "state", lambda: state)
    live = LiveBlobs(log=river.log, group=GROUP, dead_letters=river.letters, store=river.store)
    assert live.caught_up_to() == as_of
