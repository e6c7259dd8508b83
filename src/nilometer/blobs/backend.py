"""What a place for objects has to do; `local` and `s3` do it.

Not a port for others: the rest of Nilometer sees BlobStore only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from nilometer.blobs.codec import EncodedObject, ObjectMetadata
from nilometer.blobs.types import Listed

PAGE = 1000
"""Objects of one page of a listing, and of one deletion: the limit of S3."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long the storage may take, in seconds, before it counts as unavailable.

    `attempt` bounds one request and `put` a whole put with its `retries`; after `retry_window` no
    further attempt begins.
    """

    connect: float = 3
    attempt: float = 20
    retries: int = 3
    retry_window: float = 10
    put: float = 30
    probe: float = 3

    @classmethod
    def within(cls, put: float) -> Limits:
        """Limits of one put, its attempts in proportion."""
        return cls(attempt=put * 2 / 3, retry_window=put / 3, put=put)


class Backend(Protocol):
    """One bucket. Keys come from `keys`, folders are key prefixes without a slash at the end.

    Every method raises BlobsUnavailable when the storage does not do it.
    """

    scheme: str

    async def put(
        self, key: str, metadata: ObjectMetadata, size: int, encode: Callable[[], EncodedObject]
    ) -> EncodedObject:
        """Make the object durable and return it as it was encoded, in a worker thread.

        `size` is the number of bytes that `encode` holds in memory.
        """
        ...

    async def read_range(self, key: str, start: int, stop: int) -> tuple[bytes, int]:
        """The bytes from `start` up to `stop` or the object's end, and the object's size.

        Raises BlobNotFound when there is no object, or it ends before `start`.
        """
        ...

    async def probe(self) -> None:
        """Do something cheap that fails when a put would."""
        ...

    def list_folders(self, folder: str) -> Iterator[str]:
        """The folders directly inside this one ("" is the bucket), as whole prefixes."""
        ...

    def list_objects(self, folder: str) -> Iterator[Sequence[Listed]]:
        """The objects of a folder, in pages of at most PAGE."""
        ...

    def delete(self, keys: Sequence[str]) -> None:
        """Delete at most PAGE objects; those that are gone already are no error."""
        ...

    def remove_folder(self, folder: str) -> None:
        """Forget an empty folder, where folders exist; one that is not empty stays."""
        ...

    def delete_temporaries(self, before: datetime) -> int:
        """Delete what puts that were killed have left, if last written before the instant."""
        ...

    def close(self) -> None:
        """Wait for what is being written, then let go of threads and connections."""
        ...
