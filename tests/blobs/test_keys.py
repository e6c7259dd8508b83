import re
from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nilometer.blobs import keys
from nilometer.blobs.keys import Day, new_object_name, parse_blob_url, parse_day, parse_key
from nilometer.blobs.types import InvalidBlobUrl
from nilometer.domain import clock
from nilometer.errors import InvalidInput
from tests.blobs.samples import EVENT

NOON = clock.to_micros(datetime(2026, 2, 3, 12, tzinfo=UTC))
GOOD_KEY = f"llma/7/2026-02-03/{EVENT}_0123456789abcdef.multipart"
GOOD = f"s3://bucket/{GOOD_KEY}?range=64-241"

names = st.builds(
    new_object_name,
    st.integers(1, 2**62 // 5),
    st.uuids().map(str),
    st.datetimes(timezones=st.just(UTC), min_value=datetime(1970, 1, 1)).map(clock.to_micros),  # noqa: DTZ001
    st.integers(1, keys.MAX_RETENTION_DAYS),
)


def test_the_default_retention_has_the_plain_prefix_and_others_name_their_days() -> None:
    plain = new_object_name(7, EVENT.upper(), NOON, 30).key
    other = new_object_name(7, EVENT, NOON, 90).key

    assert re.fullmatch(rf"llma/7/2026-02-03/{EVENT}_[0-9a-f]{{16}}\.multipart", plain)
    assert re.fullmatch(rf"llma-90d/7/2026-02-03/{EVENT}_[0-9a-f]{{16}}\.multipart", other)


def test_the_date_is_the_acceptance_in_utc() -> None:
    last = clock.to_micros(datetime(2026, 2, 3, 23, 59, 59, 999_999, tzinfo=UTC))

    assert new_object_name(7, EVENT, last, 30).day.date == date(2026, 2, 3)
    assert new_object_name(7, EVENT, last + 1, 30).day.date == date(2026, 2, 4)


def test_a_second_put_of_one_event_gets_another_key() -> None:
    assert len({new_object_name(7, EVENT, NOON, 30).key for _ in range(100)}) == 100


@given(names, st.integers(0, 10**14), st.integers(0, 10**14))
def test_every_name_is_read_back_from_its_key_and_url(
    name: keys.ObjectName, start: int, length: int
) -> None:
    url = keys.blob_url("s3", "bucket", name, start, start + length)

    assert parse_key(name.key) == name
    assert parse_day(name.day.prefix) == name.day
    assert parse_blob_url(url, "s3", "bucket") == keys.BlobLocation(name, start, start + length)


@given(st.data())
def test_a_url_with_any_other_character_is_refused_or_read_as_exactly_what_it_says(
    data: st.DataObject,
) -> None:
    index = data.draw(st.integers(0, len(GOOD)))
    inserted = data.draw(st.text(max_size=3))
    removed = data.draw(st.integers(0, 3))
    text = GOOD[:index] + inserted + GOOD[index + removed :]

    try:
        location = parse_blob_url(text, "s3", "bucket")
    except InvalidBlobUrl:
        return
    assert keys.blob_url("s3", "bucket", location.name, location.start, location.end) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        GOOD.replace("s3://", "file://"),
        GOOD.replace("s3://", "S3://"),
        GOOD.replace("bucket", "other"),
        GOOD.replace("bucket", "bucket.evil"),
        GOOD.replace("bucket/", "bucket//"),
        GOOD.replace("bucket/", "bucket/../"),
        GOOD.replace("llma/7", "llma/7/../8"),
        GOOD.replace("llma/7", "llma/%37"),
        GOOD.replace("/7/", "/07/"),
        GOOD.replace("/7/", "/0/"),
        GOOD.replace("/7/", "/-7/"),
        GOOD.replace("/7/", "/٧/"),
        GOOD.replace("/7/", "/7\n/"),
        GOOD.replace("/7/", "/9999999999999999999999/"),
        GOOD.replace("llma/", "llma-0d/"),
        GOOD.replace("llma/", "llma-d/"),
        GOOD.replace("llma/", "llma-999999d/"),
        GOOD.replace("2026-02-03", "2026-02-30"),
        GOOD.replace("2026-02-03", "0000-01-01"),
        GOOD.replace(EVENT, EVENT.upper()),
        GOOD.replace(".multipart", ".multipart/../x.multipart"),
        GOOD.replace(".multipart", ".multipart%00"),
        GOOD.replace("64-241", "241-64"),
        GOOD.replace("64-241", "64-"),
        GOOD.replace("64-241", "-241"),
        GOOD.replace("64-241", "064-241"),
        GOOD.replace("64-241", "64-241,300-400"),
        GOOD.replace("64-241", "64-9999999999999999"),
        GOOD.replace("?range=64-241", ""),
        GOOD.replace("?range", "?Range"),
        GOOD + "&range=0-1",
        GOOD + "#x",
        GOOD + "\n",
        " " + GOOD,
        GOOD + "0" * 1000,
    ],
)
def test_what_is_not_exactly_a_url_of_this_bucket_is_refused(text: str) -> None:
    with pytest.raises(InvalidBlobUrl):
        parse_blob_url(text, "s3", "bucket")


@pytest.mark.parametrize("event", ["", "../../x", EVENT + "\n", EVENT[:-1], EVENT + "/.."])
def test_an_event_id_that_is_not_a_uuid_makes_no_key(event: str) -> None:
    with pytest.raises(InvalidInput):
        new_object_name(7, event, NOON, 30)


@pytest.mark.parametrize(("project", "days"), [(0, 30), (-1, 30), (7, 0), (7, 36501)])
def test_numbers_that_no_project_has_make_no_key(project: int, days: int) -> None:
    with pytest.raises(ValueError, match="no such project"):
        new_object_name(project, EVENT, NOON, days)


def test_a_day_expires_when_its_last_moment_is_past_the_retention() -> None:
    assert Day(7, date(2026, 2, 3), 1).expires_at(30) == datetime(2026, 2, 5, tzinfo=UTC)
    assert Day(7, date(2026, 2, 3), None).expires_at(30) == datetime(2026, 3, 6, tzinfo=UTC)
    assert Day(7, date(9999, 1, 1), 36500).expires_at(30).year == 9999


def test_foreign_folders_and_files_are_nobodys() -> None:
    assert keys.is_retention_prefix("llma")
    assert keys.is_retention_prefix("llma-90d")
    assert not keys.is_retention_prefix("llma-90")
    assert not keys.is_retention_prefix("backups")
    assert parse_day("llma/7/latest") is None
    assert parse_day("llma/7/2026-02-31") is None
    assert parse_key(f"{GOOD_KEY}.bak") is None
    assert parse_key(f"x/{GOOD_KEY}") is None
