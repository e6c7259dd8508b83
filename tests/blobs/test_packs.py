"""Packs: one object of many events' values, the same bytes under the same name."""

import asyncio
import os
from pathlib import Path

import pytest

from nilometer import failpoints
from nilometer.blobs import keys
from nilometer.blobs.packs import PackValue
from nilometer.blobs.store import BlobStore
from nilometer.blobs.types import BlobNotFound, BlobsUnavailable
from tests.blobs.samples import EVENT

AT = 4_102_444_800_000_000  # 2100-01-01
VALUES = [
    PackValue("$ai_input", b'"' + b"How high is the river? " * 1000 + b'"'),
    PackValue('a"b\r\n', '{"é":[1.10]}'.encode()),
    PackValue("", b"null"),
    PackValue("$ai_input", os.urandom(20_000).hex().encode()),
]


def put(store: BlobStore, values=None, project=7, days=30, event=EVENT):
    return asyncio.run(store.put_pack(project, event, AT, days, values or VALUES))


def read(store: BlobStore, url: str, project: int = 7) -> bytes:
    return asyncio.run(store.read_all(project, url, limit=1 << 20)).data


def objects(store: BlobStore):
    return [each.name for day in store.list_days() for page in store.list_objects(day)
            for each in page]  # fmt: skip


def test_each_range_is_one_value(store: BlobStore):
    references = put(store)
    assert [read(store, each.url) for each in references] == [each.text for each in VALUES]
    assert [each.size for each in references] == [len(each.text) for each in VALUES]
    assert references[0].stored_size < references[0].size / 10
    assert len(objects(store)) == 1


def test_the_same_values_are_the_same_object(store: BlobStore):
    assert put(store) == put(store)
    [name] = objects(store)
    assert name.is_pack
    assert name.event_id == EVENT
    assert keys.parse_key(name.key) == name


def test_a_fresh_pack_is_an_object_of_its_own_every_time(store: BlobStore):
    first, second = (
        asyncio.run(store.put_pack(7, EVENT, AT, 30, VALUES, fresh=True)) for _ in range(2)
    )
    assert len(objects(store)) == 2
    assert read(store, first[0].url) == read(store, second[0].url) == VALUES[0].text


@pytest.mark.parametrize(
    "other",
    [
        {"values": VALUES[:-1]},
        {"values": [*VALUES[:-1], PackValue("$ai_input", b'"other"')]},
        {"project": 8},
        {"days": 90},
        {"event": EVENT[:-1] + "f"},
    ],
)
def test_anything_else_is_another_object(store: BlobStore, other):
    put(store)
    put(store, **other)
    assert len(objects(store)) == 2


def test_another_project_cannot_read_a_value(store: BlobStore):
    [first, *_] = put(store)
    with pytest.raises(BlobNotFound):
        read(store, first.url, project=8)


def test_deleting_a_project_deletes_its_packs(store: BlobStore):
    put(store)
    kept = put(store, project=8)
    assert asyncio.run(store.delete_project(7)) == 1
    assert read(store, kept[0].url, project=8)


def test_a_storage_that_is_down_is_told(store: BlobStore):
    failpoints.configure("blobs=error")
    try:
        with pytest.raises(BlobsUnavailable):
            put(store)
    finally:
        failpoints.configure("")
    assert objects(store) == []


@pytest.mark.parametrize("where", ["local_store", "shared_s3_store"])
def test_puts_of_one_pack_at_once_do_not_hinder_each_other(
    where: str, request: pytest.FixtureRequest
):
    store: BlobStore = request.getfixturevalue(where)

    async def both():
        return await asyncio.gather(*(store.put_pack(7, EVENT, AT, 30, VALUES) for _ in range(8)))

    assert len(set(asyncio.run(both()))) == 1
    assert len(objects(store)) == 1


def test_what_a_killed_put_left_does_not_hinder_the_next(local_store: BlobStore, root: Path):
    [reference, *_] = put(local_store)
    name = Path(reference.url.partition("?")[0]).name
    next(root.rglob(name)).unlink()
    (root / ".tmp" / name).write_bytes(b"half of it")
    assert read(local_store, put(local_store)[0].url) == VALUES[0].text


def test_a_pack_that_rows_may_name_stays_when_it_cannot_be_put_again(
    local_store: BlobStore, monkeypatch: pytest.MonkeyPatch
):
    """Its second put fails after the rename; the first was acknowledged."""
    [reference, *_] = put(local_store)

    def broken(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").is_dir():
            raise OSError(5, "Input/output error")

    monkeypatch.setattr("nilometer.blobs.local.os.fsync", broken)
    with pytest.raises(BlobsUnavailable):
        put(local_store)
    monkeypatch.undo()
    assert read(local_store, reference.url) == VALUES[0].text


@pytest.mark.parametrize(
    "key",
    [
        f"llma/7/2026-02-03/{EVENT}_0123456789abcdef.pack",
        f"llma/7/2026-02-03/{EVENT}_{'0' * 32}.multipart",
        f"llma/7/2026-02-03/{EVENT}_{'0' * 31}g.pack",
        f"llma/7/2026-02-03/{EVENT}_{'0' * 32}.pack.gz",
        f"llma/7/../8/{EVENT}_{'0' * 32}.pack",
    ],
)
def test_no_other_key_is_a_pack(key):
    assert keys.parse_key(key) is None
