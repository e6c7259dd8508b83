"""The log's part alone: from a data directory's log into a topic, on a real broker."""

from __future__ import annotations

import contextlib
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nilometer.domain import posthog_record
from nilometer.domain.posthog_record import PostHogEvent, PostHogRecord
from nilometer.errors import ConfigurationError
from nilometer.log.envelope import Envelope
from nilometer.log.kafka.configured import configured
from nilometer.log.sqlite.unread import UnreadRecords
from nilometer.migrate_data.records import Records
from nilometer.settings import Settings
from tests.log.logs import envelope, open_log
from tests.migrate_data.test_refusals import SERVERS
from tests.services import KafkaService


class Silent:
    def begin(self, step: str, total: int) -> None: ...

    def advance(self, count: int) -> None: ...


@pytest.fixture
def settings(kafka: KafkaService) -> Settings:
    return settings_of(kafka)


def settings_of(kafka: KafkaService, **changes: Any) -> Settings:
    given = {
        "kafka_bootstrap_servers": kafka.bootstrap,
        "kafka_topic": kafka.new_topic(),
        "kafka_partitions": 8,
        "kafka_allow_single_replica": True,
    }
    return Settings(**SERVERS | given | changes)


def written(directory: Path, *envelopes: Envelope, read: int = 0) -> None:
    """A closed log with these at its end, of all of which so many have been read."""
    with contextlib.closing(open_log(directory)) as log:
        for each in envelopes:
            log.append_blocking(each)
        consumer = log.consumer("store")
        if read:
            consumer.commit(consumer.poll(max_records=read, max_bytes=1 << 20, timeout=5))
        consumer.close()


def records(directory: Path, settings: Settings) -> Records:
    return Records(UnreadRecords(directory, rewind_seconds=0), settings)


def batch(first: str) -> Envelope:
    """As the doors of PostHog write one."""
    events = tuple(PostHogEvent(each, b"{}") for each in (first, str(uuid.uuid4())))
    record = PostHogRecord(
        events=events, protocol="v0", sent_at=None, ip="127.0.0.1", retention_days=30
    )
    return replace(
        envelope(0),
        uuid=str(uuid.uuid4()),
        door=posthog_record.DOOR,
        door_version=posthog_record.DOOR_VERSION,
        payload=record.encode(),
    )


def test_a_record_that_was_moved_and_one_that_its_client_sends_again_meet_in_one_partition(
    tmp_path: Path, settings: Settings
):
    events = [str(uuid.uuid4()) for _ in range(10)]
    singles = [replace(envelope(0), uuid=each) for each in events]
    unreadable = replace(envelope(0), door=posthog_record.DOOR, payload=b"broken")
    moving = [*singles, *map(batch, events), unreadable]
    written(tmp_path, *moving)
    moved, places = records(tmp_path, settings).move(range(len(moving)), Silent())
    assert (moved, len(places)) == (len(moving), len(moving))
    with contextlib.closing(configured(settings)) as log:
        for number, event in enumerate(events):
            again = log.append_blocking(replace(singles[number], sequence=event))
            moved_to = {places[number].partition, places[number + len(events)].partition}
            assert moved_to == {again.partition}


def test_a_record_that_the_source_read_after_it_was_put_there_does_not_keep_a_move_from_its_end(
    tmp_path: Path, settings: Settings
):
    written(tmp_path, *map(envelope, range(5)))
    records(tmp_path, settings).move((), Silent())
    written(tmp_path, envelope(5), read=3)
    later = records(tmp_path, settings)
    assert later.move((), Silent())[0] == 1
    compared = later.compare()
    assert (compared.source.count, compared.equal, compared.note) == (3, True, "3 read since")


def test_what_is_not_of_the_move_differs_and_makes_the_topic_anothers(
    tmp_path: Path, settings: Settings
):
    written(tmp_path, envelope(0))
    moving = records(tmp_path, settings)
    moving.move((), Silent())
    assert not moving.strangers()
    with contextlib.closing(configured(settings)) as log:
        log.append_blocking(envelope(1))
    assert moving.strangers()
    assert (moving.compare().fine, moving.compare().note) == (False, "1 of others")


@pytest.fixture
def refusing(tmp_path: Path) -> Path:
    written(tmp_path, envelope(0, size=70_000))
    return tmp_path


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"kafka_allow_single_replica": False}, "has 1 of the 3 brokers"),
        ({"kafka_max_message_bytes": 1 << 16}, "has 70,... bytes, .* takes 63,488"),
    ],
)
def test_a_topic_that_could_not_take_them_is_refused_before_anything_is_made(
    refusing: Path, kafka: KafkaService, changes: dict[str, Any], told: str
):
    with pytest.raises(ConfigurationError, match=told):
        records(refusing, settings_of(kafka, **changes)).require_room()


def test_a_topic_that_is_too_small_or_too_weak_is_refused(refusing: Path, kafka: KafkaService):
    small = settings_of(kafka, kafka_max_message_bytes=1 << 16)
    configured(small).close()
    large = small.model_copy(update={"kafka_max_message_bytes": 1 << 20})
    with pytest.raises(ConfigurationError, match="takes 63,488"):
        records(refusing, large).require_room()
    weak = large.model_copy(update={"kafka_allow_single_replica": False})
    with pytest.raises(ConfigurationError, match="only one broker"):
        records(refusing, weak).require_room()
