"""The sweeper: what it deletes, and above all what it does not."""

import os
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from nilometer.blobs.keys import Day, ObjectName
from nilometer.blobs.store import BlobStore
from nilometer.blobs.sweeper import MARGIN, SweepCounts, Sweeper
from nilometer.blobs.types import BlobsUnavailable
from nilometer.domain import clock
from nilometer.errors import InvalidInput, Unavailable
from nilometer.observability import metrics
from tests.blobs.samples import EVENT, all_keys, files, key_of, part, put

NOTHING = SweepCounts(expired=0, orphans=0, temporaries=0, complete=True)


@dataclass
class Events:
    """What the rest of Nilometer would know: the keys that events name, and how far it is."""

    named: set[str] = field(default_factory=set)
    caught_up: datetime | None = field(default_factory=lambda: clock.now() + timedelta(days=900))
    failing: bool = False
    error: Exception = field(default_factory=lambda: Unavailable("the store is away"))
    asked: list[list[str]] = field(default_factory=list)

    def referenced(self, project_id: int, names: Sequence[ObjectName]) -> Collection[str]:
        if self.failing:
            raise self.error
        assert all(name.day.project_id == project_id for name in names)
        self.asked.append([name.key for name in names])
        return self.named.intersection(self.asked[-1])

    def caught_up_to(self) -> int | None:
        return None if self.caught_up is None else clock.to_micros(self.caught_up)

    def asked_once(self) -> set[str]:
        """The keys asked about since the last time."""
        asked = {key for keys in self.asked for key in keys}
        self.asked.clear()
        return asked


@dataclass
class Clock:
    """The sweeper's clock: real uploads are made old by moving it on."""

    moment: datetime = field(default_factory=clock.now)

    def __call__(self) -> datetime:
        return self.moment

    def advance(self, **parts: float) -> None:
        self.moment += timedelta(**parts)


@pytest.fixture
def events() -> Events:
    return Events()


@pytest.fixture
def now() -> Clock:
    return Clock()


Make = Callable[[BlobStore], Sweeper]


@pytest.fixture
def make(events: Events, now: Clock) -> Iterator[Make]:
    """Sweepers that look every 10 ms once started, and are stopped at the end."""
    made: list[Sweeper] = []

    def sweeper_of(store: BlobStore) -> Sweeper:
        sweeper = Sweeper(
            store,
            referenced=events.referenced,
            caught_up_to=events.caught_up_to,
            orphan_grace=24 * 3600,
            interval=0.01,
            now=now,
        )
        made.append(sweeper)
        return sweeper

    yield sweeper_of
    for sweeper in made:
        sweeper.stop()


@pytest.fixture
def sweeper(store: BlobStore, make: Make) -> Sweeper:
    return make(store)


def one(store: BlobStore, project: int = 1, days: int = 30, age: int = 0) -> str:
    """The key of a new object, accepted `age` days ago and uploaded now."""
    accepted = clock.to_micros(clock.now() - timedelta(days=age))
    [reference] = put(store, part("a", b"x"), project=project, days=days, accepted_at=accepted)
    return key_of(store, reference.url)


def sample(name: str, **labels: str) -> float:
    return metrics.REGISTRY.get_sample_value(name, labels) or 0


def swept(reason: str) -> float:
    return sample("nilometer_blobs_swept_total", reason=reason)


def sweeps(outcome: str) -> float:
    return sample("nilometer_blob_sweeps_total", outcome=outcome)


def test_objects_past_their_retention_are_deleted_and_others_kept(
    store: BlobStore, sweeper: Sweeper, events: Events
) -> None:
    over = [one(store, age=32), one(store, days=7, age=9), one(store, 2, days=90, age=92)]
    kept = [one(store, age=30), one(store, days=7, age=7), one(store, 2, days=90, age=89)]
    events.named.update(over, kept)  # being named does not keep an expired object
    before = swept("expired")

    assert sweeper.sweep() == SweepCounts(expired=3, orphans=0, temporaries=0, complete=True)

    assert sorted(all_keys(store)) == sorted(kept)
    assert swept("expired") == before + 3


def test_a_second_sweep_finds_nothing_more(store: BlobStore, sweeper: Sweeper) -> None:
    one(store, age=40)

    assert sweeper.sweep().expired == 1
    assert sweeper.sweep() == NOTHING


def test_an_old_object_that_no_event_names_is_deleted(
    store: BlobStore, sweeper: Sweeper, events: Events, now: Clock
) -> None:
    named, orphan, theirs = one(store), one(store), one(store, project=2)
    events.named.update([named, theirs])
    now.advance(hours=25)
    before = swept("orphan")

    assert sweeper.sweep() == SweepCounts(expired=0, orphans=1, temporaries=0, complete=True)

    assert sorted(all_keys(store)) == sorted([named, theirs])
    assert events.asked_once() == {named, orphan, theirs}
    assert swept("orphan") == before + 1


def test_the_second_object_of_one_event_is_an_orphan_too(
    store: BlobStore, sweeper: Sweeper, events: Events, now: Clock
) -> None:
    first, second = one(store), one(store)
    assert EVENT in first
    assert EVENT in second
    events.named.add(first)
    now.advance(hours=25)

    sweeper.sweep()

    assert all_keys(store) == [first]


def test_an_object_within_the_grace_is_left_alone(
    store: BlobStore, sweeper: Sweeper, events: Events, now: Clock
) -> None:
    key = one(store)
    now.advance(hours=23)

    assert sweeper.sweep() == NOTHING
    assert all_keys(store) == [key]
    assert events.asked == []


def test_no_object_is_judged_before_every_record_of_its_time_was_processed(
    store: BlobStore, sweeper: Sweeper, events: Events, now: Clock
) -> None:
    key = one(store)
    uploaded = clock.now()
    now.advance(hours=48)

    for caught_up in (uploaded - timedelta(minutes=1), uploaded + MARGIN - timedelta(minutes=1)):
        events.caught_up = caught_up
        sweeper.sweep()
        assert all_keys(store) == [key]
        assert events.asked == []

    events.caught_up = uploaded + MARGIN + timedelta(minutes=1)
    assert sweeper.sweep().orphans == 1


def test_nothing_is_an_orphan_while_progress_is_unknown_but_expiry_goes_on(
    store: BlobStore, sweeper: Sweeper, events: Events, now: Clock
) -> None:
    one(store, age=60)
    key = one(store)
    events.caught_up = None
    now.advance(hours=48)

    assert sweeper.sweep() == SweepCounts(expired=1, orphans=0, temporaries=0, complete=False)
    assert all_keys(store) == [key]


ERRORS = [Unavailable("the store is away"), InvalidInput("too much"), KeyError("a prompt")]
each_error = pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)


@each_error
def test_orphans_wait_while_the_events_cannot_be_asked_but_expiry_goes_on(
    store: BlobStore,
    sweeper: Sweeper,
    events: Events,
    now: Clock,
    error: Exception,
    caplog: pytest.LogCaptureFixture,
) -> None:
    events.error = error
    kept = [one(store, project=1), one(store, project=2)]
    one(store, project=3, age=60)
    events.failing = True
    now.advance(hours=48)

    assert sweeper.sweep() == SweepCounts(expired=1, orphans=0, temporaries=0, complete=False)
    assert sorted(all_keys(store)) == sorted(kept)

    assert "a prompt" not in caplog.text
    events.failing = False
    assert sweeper.sweep().orphans == 2


def test_progress_that_cannot_be_asked_judges_nothing_but_expiry_goes_on(
    local_store: BlobStore, now: Clock
) -> None:
    def fails() -> int:
        raise KeyError("x")

    one(local_store, age=60)
    key = one(local_store)
    now.advance(hours=48)
    sweeper = Sweeper(local_store, referenced=lambda *_: (), caught_up_to=fails, now=now)

    assert sweeper.sweep() == SweepCounts(expired=1, orphans=0, temporaries=0, complete=False)
    assert all_keys(local_store) == [key]


def test_days_that_were_judged_are_asked_about_again_only_once_a_day(
    store: BlobStore, sweeper: Sweeper, events: Events, now: Clock
) -> None:
    settled, recent = one(store, age=5), one(store)
    events.named.update([settled, recent])
    now.advance(hours=25)
    sweeper.sweep()
    assert events.asked_once() == {settled, recent}

    now.advance(hours=1)
    sweeper.sweep()
    assert events.asked_once() == {recent}

    now.advance(hours=23)
    sweeper.sweep()
    assert events.asked_once() == {settled, recent}


def test_a_pass_that_could_not_judge_settles_nothing(
    store: BlobStore, sweeper: Sweeper, events: Events, now: Clock
) -> None:
    orphan = one(store, age=5)
    events.failing = True
    now.advance(hours=25)
    sweeper.sweep()
    assert all_keys(store) == [orphan]

    events.failing = False
    now.advance(hours=1)

    assert sweeper.sweep().orphans == 1


def test_many_objects_are_handled_a_page_at_a_time(
    store: BlobStore, make: Make, events: Events, now: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("local", "s3", "store"):
        monkeypatch.setattr(f"nilometer.blobs.{module}.PAGE", 4)
    keys = [one(store) for _ in range(11)]
    expired = [one(store, age=60) for _ in range(9)]
    events.named.update(keys[:6])
    now.advance(hours=25)

    counts = make(store).sweep()

    assert (counts.expired, counts.orphans) == (len(expired), 5)
    assert sorted(all_keys(store)) == sorted(keys[:6])
    assert sorted(len(asked) for asked in events.asked) == [3, 4, 4]


def test_old_temporaries_are_deleted_and_young_ones_kept(
    local_store: BlobStore, make: Make, root: Path
) -> None:
    old, young = root / ".tmp" / "old.multipart", root / ".tmp" / "young.multipart"
    for path in (old, young):
        path.write_bytes(b"half an object")
    past = (datetime.now(UTC) - timedelta(hours=2)).timestamp()
    os.utime(old, (past, past))

    assert make(local_store).sweep().temporaries == 1
    assert files(root) == [young]


def test_a_day_that_is_over_leaves_no_folder(
    local_store: BlobStore, make: Make, root: Path
) -> None:
    path = root / one(local_store, age=60)

    make(local_store).sweep()

    assert not path.parent.exists()
    assert path.parent.parent.exists()


def test_foreign_files_are_never_swept(
    local_store: BlobStore, make: Make, root: Path, now: Clock
) -> None:
    foreign = (root / one(local_store, age=60)).with_name("notes.txt")
    foreign.write_text("mine")
    now.advance(days=100)

    assert make(local_store).sweep().expired == 1
    assert foreign.read_text() == "mine"


def eventually(holds: Callable[[], bool]) -> None:
    late = threading.Event()
    timer = threading.Timer(20, late.set)
    timer.start()
    try:
        while not holds():
            assert not late.is_set(), "it did not happen in 20 s"
    finally:
        timer.cancel()


def test_the_thread_sweeps_at_every_interval_until_it_is_stopped(
    store: BlobStore, sweeper: Sweeper
) -> None:
    one(store, age=60)
    sweeper.start()
    eventually(lambda: not all_keys(store))
    one(store, age=61)
    eventually(lambda: not all_keys(store))

    sweeper.stop()

    kept = one(store, age=60)
    assert all_keys(store) == [kept]


def test_a_stop_does_not_wait_for_ever_for_what_does_not_answer(
    local_store: BlobStore,
    make: Make,
    events: Events,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("nilometer.blobs.sweeper._STOP_SECONDS", 0.1)
    asked, answer = threading.Event(), threading.Event()

    def waits() -> int | None:
        asked.set()
        answer.wait(20)
        return None

    monkeypatch.setattr(events, "caught_up_to", waits)
    sweeper = make(local_store)
    sweeper.start()
    assert asked.wait(90)
    sweeper.stop()
    assert not answer.is_set()
    assert "did not end" in caplog.text
    answer.set()
    sweeper.stop()


@pytest.mark.parametrize(
    "error",
    [BlobsUnavailable("the disk is away"), ZeroDivisionError("a prompt")],
    ids=["storage away", "unforeseen"],
)
def test_the_thread_survives_a_sweep_that_fails_and_tells(
    local_store: BlobStore,
    make: Make,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    failed = threading.Event()
    list_days = local_store.list_days

    def list_days_the_second_time() -> Iterator[Day]:
        if not failed.is_set():
            failed.set()
            raise error
        return list_days()

    one(local_store, age=60)
    before = sweeps("failed")
    monkeypatch.setattr(local_store, "list_days", list_days_the_second_time)
    make(local_store).start()

    assert failed.wait(90)
    eventually(lambda: not all_keys(local_store))
    assert sweeps("failed") == before + 1
    told = (
        "the disk is away" if isinstance(error, BlobsUnavailable) else "list_days_the_second_time"
    )
    assert told in caplog.text
    assert "a prompt" not in caplog.text


def test_complete_and_partial_sweeps_are_told_apart(
    local_store: BlobStore, make: Make, events: Events, now: Clock
) -> None:
    sweeper = make(local_store)
    events.caught_up = None
    partial, complete = sweeps("partial"), sweeps("complete")
    last = sample("nilometer_blob_sweep_completed_timestamp_seconds")
    now.advance(days=1000)
    sweeper.start()

    eventually(lambda: sweeps("partial") >= partial + 2)
    assert sweeps("complete") == complete
    assert sample("nilometer_blob_sweep_completed_timestamp_seconds") == last

    events.caught_up = clock.now()
    eventually(lambda: sweeps("complete") > complete)
    eventually(
        lambda: sample("nilometer_blob_sweep_completed_timestamp_seconds") == now().timestamp()
    )


def test_a_sweep_that_is_stopped_ends_after_the_page_at_hand(
    local_store: BlobStore, make: Make, events: Events, now: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for project in range(1, 6):
        one(local_store, project=project)
    now.advance(hours=25)
    referenced = events.referenced

    def stop_and_answer(project_id: int, names: Sequence[ObjectName]) -> Collection[str]:
        sweeper.stop()
        return referenced(project_id, names)

    monkeypatch.setattr(events, "referenced", stop_and_answer)
    sweeper = make(local_store)

    assert sweeper.sweep() == SweepCounts(expired=0, orphans=1, temporaries=0, complete=False)
    assert len(all_keys(local_store)) == 4
