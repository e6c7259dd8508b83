"""What a blob store promises, on files and on a real S3 server alike."""

import asyncio
import email
import gzip
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nilometer import failpoints
from nilometer.blobs import reader
from nilometer.blobs.keys import parse_blob_url
from nilometer.blobs.store import BlobStore, open_store
from nilometer.blobs.types import (
    BlobExpired,
    BlobNotFound,
    BlobPart,
    BlobsUnavailable,
    BlobTooLarge,
    BlobUndecodable,
    InvalidBlobUrl,
)
from nilometer.domain import clock
from nilometer.errors import ConfigurationError, InvalidInput
from nilometer.observability import metrics
from tests.blobs.samples import EVENT, all_keys, key_of, noise, part, prose, put, read, read_all

OTHER_EVENT = "223e4567-e89b-12d3-a456-426614174000"


@pytest.fixture
def broken_blobs() -> Iterator[None]:
    failpoints.configure("blobs=error")
    yield
    failpoints.configure("")


def moved(url: str, start: int, end: int) -> str:
    return f"{url.partition('?')[0]}?range={start}-{end}"


def count(name: str, **labels: str) -> float:
    return metrics.REGISTRY.get_sample_value(name, labels) or 0


def test_text_json_and_binary_come_back_as_they_were_sent(store: BlobStore) -> None:
    sent = [
        part("$ai_input", prose(50_000), "application/json"),
        part("$ai_output", "née\r\n".encode() * 9, "text/plain; charset=utf-8"),
        part("image", noise(30_000), "application/octet-stream"),
    ]
    references = put(store, *sent)

    assert [r.name for r in references] == [p.name for p in sent]
    assert [r.size for r in references] == [p.size for p in sent]
    assert [r.compressed_here for r in references] == [True, False, False]
    assert references[0].stored_size < 50_000
    for reference, original in zip(references, sent, strict=True):
        body = original.chunks[0]
        assert read(store, reference.url) == body
        assert read_all(store, reference.url) == body
        content = asyncio.run(store.read_all(1, reference.url, limit=1 << 20))
        assert (content.name, content.content_type) == (original.name, original.content_type)
        assert content.content_encoding is None


def test_all_blobs_of_an_event_are_in_one_object_named_by_its_project_and_day(
    store: BlobStore,
) -> None:
    moment = clock.now() - timedelta(days=2)
    references = put(
        store,
        part("a", b"1"),
        part("b", b"2"),
        project=42,
        days=90,
        accepted_at=clock.to_micros(moment),
    )

    [key] = all_keys(store)
    assert {key_of(store, r.url) for r in references} == {key}
    assert key.startswith(f"llma-90d/42/{moment.date().isoformat()}/{EVENT}_")
    assert all(r.url.startswith(f"{store.scheme}://{store.bucket}/{key}?") for r in references)


def test_an_event_without_blobs_makes_no_object(store: BlobStore) -> None:
    assert put(store) == ()
    assert all_keys(store) == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(
    st.lists(
        st.tuples(
            st.one_of(st.binary(max_size=3000), st.integers(0, 4000).map(prose)),
            st.sampled_from(["text/plain", "application/json", "application/octet-stream"]),
            st.sampled_from([None, "gzip", "br"]),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_mixed_objects_read_back_right(
    store: BlobStore, items: list[tuple[bytes, str, str | None]]
) -> None:
    sent = [
        part(f"p{i}", gzip.compress(body) if encoding == "gzip" else body, content_type, encoding)
        for i, (body, content_type, encoding) in enumerate(items)
    ]

    references = put(store, *sent)

    assert [read(store, r.url) for r in references] == [body for body, _, _ in items]
    assert [read_all(store, r.url) for r in references] == [body for body, _, _ in items]


def test_what_a_client_compressed_is_stored_as_it_came_and_read_decoded(store: BlobStore) -> None:
    body = prose(20_000)
    [reference] = put(store, part("a", gzip.compress(body), "application/json", "gzip"))

    assert reference.stored_size == reference.size == len(gzip.compress(body))
    assert (reference.content_encoding, reference.compressed_here) == ("gzip", False)
    assert read(store, reference.url) == body


def test_an_unknown_encoding_is_returned_as_stored_and_named(store: BlobStore) -> None:
    [reference] = put(store, part("a", b"\x01\x02", "text/plain", "zstd"))

    blob = asyncio.run(store.read(1, reference.url))

    assert blob.content_encoding == "zstd"
    assert read(store, reference.url) == b"\x01\x02"


def test_large_bodies_in_chunks_are_read_in_pieces(store: BlobStore) -> None:
    chunk = noise(700_000)
    sent = BlobPart("big", "application/octet-stream", None, [chunk] * 5)
    zipped = part("zipped", gzip.compress(chunk * 3), "text/plain", "gzip")
    big, small = put(store, sent, zipped)

    assert big.size > 3 * reader.PIECE_BYTES
    assert read(store, big.url) == chunk * 5
    assert read(store, small.url) == chunk * 3


@pytest.mark.parametrize(
    "stream",
    [b"not gzip", gzip.compress(prose(9000))[:-9], gzip.compress(b"x") + b"junk"],
    ids=["other", "cut", "garbage"],
)
def test_a_clients_broken_gzip_is_an_error_before_the_first_byte(
    store: BlobStore, stream: bytes
) -> None:
    [reference] = put(store, part("a", stream, "text/plain", "gzip"))

    with pytest.raises(BlobUndecodable):
        asyncio.run(store.read(1, reference.url))
    with pytest.raises(BlobUndecodable):
        read_all(store, reference.url)


def test_a_bomb_is_refused_in_little_memory(root_store: BlobStore) -> None:
    bomb = gzip.compress(bytes(64 << 20))
    [reference] = put(root_store, part("a", bomb, "text/plain", "gzip"))
    tracemalloc.start()

    with pytest.raises(BlobTooLarge):
        asyncio.run(root_store.read(1, reference.url))
    with pytest.raises(BlobTooLarge):
        read_all(root_store, reference.url, limit=1 << 20)

    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


@pytest.fixture
def root_store(root: Path) -> Iterator[BlobStore]:
    opened = open_store(f"file://{root}", bucket="nilometer", max_read_bytes=32 << 20)
    yield opened
    opened.close()


def test_a_plain_blob_over_the_limit_is_refused(store: BlobStore) -> None:
    [reference] = put(store, part("a", noise(2000), "application/octet-stream"))

    assert len(read_all(store, reference.url, limit=2000)) == 2000
    with pytest.raises(BlobTooLarge):
        read_all(store, reference.url, limit=1999)


def test_another_projects_blob_is_answered_as_one_that_does_not_exist(store: BlobStore) -> None:
    [mine] = put(store, part("a", b"mine"))
    [theirs] = put(store, part("a", b"theirs"), project=2)
    missing = mine.url.replace(EVENT, OTHER_EVENT)

    answers = []
    for url in (theirs.url, missing, theirs.url.replace(EVENT, OTHER_EVENT)):
        with pytest.raises(BlobNotFound) as caught:
            asyncio.run(store.read(1, url))
        answers.append((caught.value.code, caught.value.detail, caught.value.attr))
    assert len(set(answers)) == 1
    assert read(store, theirs.url, project=2) == b"theirs"


def test_one_uuid_in_two_projects_is_two_blobs(store: BlobStore) -> None:
    [one] = put(store, part("a", b"one"), project=1)
    [two] = put(store, part("a", b"two"), project=2)

    assert read(store, one.url, project=1) == b"one"
    assert read(store, two.url, project=2) == b"two"


def test_a_range_that_is_no_part_is_not_found(store: BlobStore) -> None:
    [reference] = put(store, part("a", noise(500), "application/octet-stream"))
    location = parse_blob_url(reference.url, store.scheme, store.bucket)

    for start, end in (
        (location.start + 1, location.end),
        (0, location.end),
        (location.start, location.start + 20),
        (location.start, location.end + 100_000),
        (100_000, 100_001),
        (10**14, 10**14 + 1),
    ):
        with pytest.raises(BlobNotFound):
            asyncio.run(store.read(1, moved(reference.url, start, end)))
    with pytest.raises(InvalidBlobUrl):
        asyncio.run(store.read(1, moved(reference.url, 5, 4)))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 900), st.integers(0, 900))
def test_any_range_of_an_own_object_is_a_blob_or_an_error_of_the_client(
    local_store: BlobStore, start: int, length: int
) -> None:
    inner = b'Content-Disposition: form-data; name="x"\r\nContent-Type: a\r\n'
    fake = inner + b"Content-Encoding: gzip\r\n\r\nno gzip"
    [reference] = put(local_store, part("a", fake + inner + b"\r\nfine"))

    try:
        read(local_store, moved(reference.url, start, start + length))
    except (BlobNotFound, BlobUndecodable):
        return


def test_a_blob_past_its_retention_is_expired_whether_swept_or_not(store: BlobStore) -> None:
    long_ago = clock.to_micros(clock.now() - timedelta(days=32))
    [over] = put(store, part("a", b"x"), accepted_at=long_ago)
    [kept] = put(store, part("a", b"x"), accepted_at=long_ago, days=90)

    with pytest.raises(BlobExpired):
        asyncio.run(store.read(1, over.url))
    assert read(store, kept.url) == b"x"
    with pytest.raises(BlobNotFound):
        asyncio.run(store.read(2, over.url))


def test_bad_names_and_ids_are_refused_before_anything_is_stored(store: BlobStore) -> None:
    with pytest.raises(InvalidInput):
        put(store, part('a"', b"x"))
    with pytest.raises(InvalidInput):
        put(store, part("a", b"x"), event="../../etc")
    assert all_keys(store) == []


def test_the_failpoint_makes_puts_and_the_probe_fail(store: BlobStore, broken_blobs: None) -> None:
    failed = count("nilometer_blob_uploads_total", outcome="failed")

    with pytest.raises(BlobsUnavailable) as caught:
        put(store, part("a", b"x"))
    with pytest.raises(BlobsUnavailable):
        asyncio.run(store.probe())

    assert caught.value.retry_after > 0
    assert count("nilometer_blob_uploads_total", outcome="failed") == failed + 1
    assert all_keys(store) == []


def test_the_probe_of_a_working_store_succeeds_and_leaves_nothing(store: BlobStore) -> None:
    asyncio.run(store.probe())

    assert all_keys(store) == []
    assert store.delete_temporaries(datetime.max.replace(tzinfo=UTC)) == 0


def test_uploads_are_measured(store: BlobStore) -> None:
    before = [
        count("nilometer_blob_uploads_total", outcome="stored"),
        count("nilometer_blob_upload_seconds_count"),
        count("nilometer_blob_bytes_count"),
        count("nilometer_blob_bytes_sum"),
        count("nilometer_blob_compression_ratio_count"),
    ]

    put(store, part("a", prose(2000)), part("b", b"123"))

    after = [
        count("nilometer_blob_uploads_total", outcome="stored"),
        count("nilometer_blob_upload_seconds_count"),
        count("nilometer_blob_bytes_count"),
        count("nilometer_blob_bytes_sum"),
        count("nilometer_blob_compression_ratio_count"),
    ]
    assert [new - old for new, old in zip(after, before, strict=True)] == [1, 1, 2, 2003, 1]


def test_deleting_a_project_takes_every_retention_of_it_and_nothing_else(store: BlobStore) -> None:
    for days, when in ((30, 0), (90, 5), (365, 100)):
        put(store, part("a", b"x"), project=1, days=days, accepted_at=when_ago(when))
    [kept] = put(store, part("a", b"kept"), project=11)

    assert asyncio.run(store.delete_project(1)) == 3
    assert asyncio.run(store.delete_project(1)) == 0

    assert all_keys(store) == [key_of(store, kept.url)]
    assert read(store, kept.url, project=11) == b"kept"
    [again] = put(store, part("a", b"again"), project=1)
    assert read(store, again.url) == b"again"


def when_ago(days: int) -> int:
    return clock.to_micros(clock.now() - timedelta(days=days))


def test_deleting_what_is_gone_is_no_error(store: BlobStore) -> None:
    [reference] = put(store, part("a", b"x"))
    name = parse_blob_url(reference.url, store.scheme, store.bucket).name

    assert store.delete([name]) == store.delete([name]) == 1
    assert store.delete([]) == 0
    with pytest.raises(BlobNotFound):
        asyncio.run(store.read(1, reference.url))


def test_many_puts_at_once_are_all_whole(store: BlobStore) -> None:
    async def all_of_them() -> list[str]:
        now = clock.to_micros(clock.now())
        puts = [store.put(1, EVENT, now, 30, [part("a", b"%d" % i)]) for i in range(40)]
        return [references[0].url for references in await asyncio.gather(*puts)]

    urls = asyncio.run(all_of_them())

    assert [read_all(store, url) for url in urls] == [b"%d" % i for i in range(40)]


def test_a_reader_that_goes_away_leaves_nothing_behind(store: BlobStore) -> None:
    [reference] = put(store, part("a", noise(3 << 20), "application/octet-stream"))

    async def leave() -> None:
        blob = await store.read(1, reference.url)
        async for _ in blob.chunks:
            return

    asyncio.run(leave())
    assert len(read(store, reference.url)) == 3 << 20


@pytest.mark.parametrize(
    "url", ["s3://", "s3://bucket/folder", "file://host/x", "file:relative", "/x", "http://x/y"]
)
def test_a_place_that_is_neither_a_directory_nor_a_bucket_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError):
        open_store(url, bucket="nilometer")


def test_a_range_is_what_a_mime_reader_expects(store: BlobStore) -> None:
    [reference] = put(store, part("$ai_input", prose(4000)))
    location = parse_blob_url(reference.url, store.scheme, store.bucket)
    key = location.name.key

    data, _ = asyncio.run(store._backend.read_range(key, location.start, location.end + 1))

    message = email.message_from_bytes(data)
    body = message.get_payload(decode=True)
    assert isinstance(body, bytes)
    assert message.get_param("name", header="content-disposition") == "$ai_input"
    assert message["Content-Encoding"] == "gzip"
    assert gzip.decompress(body) == prose(4000)
