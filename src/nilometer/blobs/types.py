"""The nouns of this room."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from nilometer.errors import InvalidInput, NotFound, Unavailable


class BlobsUnavailable(Unavailable):
    """The object storage did not answer or refused; nothing was made durable."""

    code = "blobs_unavailable"


class BlobsFull(BlobsUnavailable):
    """The object storage has no room; it accepts again once there is some."""

    code = "blobs_full"


class BlobNotFound(NotFound):
    """No such blob in this project. The same answer for another project's blob."""

    code = "blob_not_found"


class BlobExpired(NotFound):
    """The blob's retention has ended and it has been deleted, as promised."""

    code = "blob_expired"


class InvalidBlobUrl(InvalidInput):
    """The text is not a blob URL of this deployment."""

    code = "invalid_blob_url"


@dataclass(frozen=True, slots=True)
class BlobPart:
    """One blob as a client sent it.

    `name` is the bare property (`$ai_input`). `content_encoding` is what the client declared
    (`gzip` for a part that arrived compressed) or None. `chunks` are the body's bytes in order;
    they are not joined, so that a large part is in memory once.
    """

    name: str
    content_type: str
    content_encoding: str | None
    chunks: Sequence[bytes]

    @property
    def size(self) -> int:
        """Bytes as received."""
        return sum(len(chunk) for chunk in self.chunks)


class BlobUndecodable(InvalidInput):
    """The bytes that the client sent are not in the content encoding that it declared."""

    code = "blob_undecodable"


class BlobTooLarge(InvalidInput):
    """Decoded, the blob is larger than this read allows."""

    code = "blob_too_large"


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """One blob, opened for reading.

    `content_encoding` is what is still applied to the bytes: None once decoded, or the client's
    own encoding when it is one that Nilometer does not know. `size` is the number of bytes that
    `chunks` yields. `chunks` can be iterated once, holds no connection or file between two
    chunks, and may be dropped at any time.
    """

    name: str
    content_type: str
    content_encoding: str | None
    size: int
    chunks: AsyncIterator[bytes]


@dataclass(frozen=True, slots=True)
class BlobContent:
    """One blob, read whole. The fields are those of StoredBlob."""

    name: str
    content_type: str
    content_encoding: str | None
    data: bytes


@dataclass(frozen=True, slots=True)
class Listed:
    """One object of a listing: its key, when the storage says that it was written (UTC), and its
    size in bytes. `tag` is the storage's own tag of the bytes; often, not always, their MD5."""

    key: str
    modified: datetime
    size: int = 0
    tag: str = ""
