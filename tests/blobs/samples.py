"""Parts, and the few steps that every test of this room takes."""

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path

from nilometer.blobs.keys import parse_blob_url
from nilometer.blobs.store import BlobStore
from nilometer.blobs.types import BlobPart
from nilometer.domain import clock
from nilometer.domain.ai_record import BlobReference

EVENT = "123e4567-e89b-12d3-a456-426614174000"
BUCKET = "test-bucket"
WORDS = [
    "".join(random.Random(seed).choices("abcdefghijklmnop", k=1 + seed % 9)) for seed in range(500)
]


class Traced(bytes):
    """Bytes that count how many of their kind are in memory."""

    alive = 0

    def __init__(self, *_: object) -> None:
        Traced.alive += 1

    def __del__(self) -> None:
        Traced.alive -= 1


def prose(size: int) -> bytes:
    """Text that gzip makes smaller."""
    words = random.Random(size).choices(WORDS, k=size)
    return " ".join(words).encode()[:size]


def noise(size: int) -> bytes:
    """Bytes that gzip makes larger."""
    return random.Random(size).randbytes(size)


def part(
    name: str, body: bytes, content_type: str = "text/plain", encoding: str | None = None
) -> BlobPart:
    return BlobPart(name, content_type, encoding, [body])


def put(
    store: BlobStore,
    *parts: BlobPart,
    project: int = 1,
    event: str = EVENT,
    days: int = 30,
    accepted_at: int | None = None,
) -> tuple[BlobReference, ...]:
    accepted = clock.to_micros(clock.now()) if accepted_at is None else accepted_at
    return asyncio.run(store.put(project, event, accepted, days, parts))


def read(store: BlobStore, url: str, project: int = 1) -> bytes:
    """The bytes of a streamed read, which must be as many as it announced."""

    async def collect() -> bytes:
        blob = await store.read(project, url)
        data = b"".join([chunk async for chunk in blob.chunks])
        assert len(data) == blob.size
        return data

    return asyncio.run(collect())


def read_all(store: BlobStore, url: str, project: int = 1, limit: int = 1 << 30) -> bytes:
    return asyncio.run(store.read_all(project, url, limit=limit)).data


def key_of(store: BlobStore, url: str) -> str:
    return parse_blob_url(url, store.scheme, store.bucket).name.key


def all_keys(store: BlobStore) -> list[str]:
    return [
        item.name.key
        for day in store.list_days()
        for page in store.list_objects(day)
        for item in page
    ]


def files(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file())


def joined(buffers: Sequence[bytes]) -> bytes:
    return b"".join(buffers)
