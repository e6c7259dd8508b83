"""Blobs in a bucket of S3, or of a server that speaks like it, through obstore.

Credentials, region and endpoint follow AWS's environment variables (`AWS_ACCESS_KEY_ID`,
`AWS_REGION`, `AWS_ENDPOINT_URL` and the rest of obstore's list, also the roles of ECS, EKS and
EC2). One put is one PutObject, never a multipart upload, retried with jitter.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from nilometer.blobs import endpoint as endpoints
from nilometer.blobs.backend import PAGE, Limits
from nilometer.blobs.codec import EncodedObject, ObjectMetadata, epilogue, user_metadata
from nilometer.blobs.s3_options import S3Options
from nilometer.blobs.types import BlobNotFound, BlobsFull, BlobsUnavailable, Listed

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Config

# obstore's overloads for Arrow name types of a package that is not installed; pyright calls these
# three functions partially unknown for it.
_PROBE_FOLDER = "llma/.probe"
# The second is what is said of one key of a DeleteObjects.
_CODE = re.compile(r"<Code>(\w{1,64})</Code>|\(code: (\w{1,64})\)")
_STATUS = re.compile(r"status code: (\d{3})")
# Amazon's is never full; MinIO, Ceph, and any server that answers 507 Insufficient Storage.
_FULL = ("XMinioStorageFull", "QuotaExceeded", "status 507")


class S3Objects:
    """One bucket of S3."""

    scheme = "s3"

    def __init__(
        self,
        bucket: str,
        *,
        endpoint: str | None,
        limits: Limits,
        options: S3Options | None = None,
    ) -> None:
        options = options or S3Options()
        endpoint = endpoints.effective_endpoint(endpoint)
        self._store = S3Store(
            config=_config(bucket, endpoint, options),
            client_options=_client_options(endpoint, limits),
            retry_config=_retry_config(limits),
        )

    async def put(
        self,
        key: str,
        metadata: ObjectMetadata,
        size: int,  # noqa: ARG002  (a put that is given up is freed at once: obstore drops it)
        encode: Callable[[], EncodedObject],
    ) -> EncodedObject:
        """One PutObject with user metadata; it is durable when S3 has answered."""
        encoded = await asyncio.to_thread(encode)
        attributes, complete = user_metadata(metadata, encoded.parts)
        body = encoded.buffers
        if not complete:
            body = [*body, epilogue(metadata, encoded.parts)]
        with _translated():
            await obstore.put_async(
                self._store,
                key,
                body,
                attributes={"Content-Type": encoded.content_type, **attributes},
                use_multipart=False,
            )
        return encoded

    async def read_range(self, key: str, start: int, stop: int) -> tuple[bytes, int]:
        """One ranged GetObject."""
        with _translated(missing=BlobNotFound("there is no such blob")):
            found = await obstore.get_async(self._store, key, options={"range": (start, stop)})
            return bytes(await found.bytes_async()), found.meta["size"]

    async def probe(self) -> None:
        """List a folder that is always empty: needs the server, the bucket and the rights."""
        with _translated():
            await obstore.list_with_delimiter_async(  # pyright: ignore[reportUnknownMemberType]
                self._store, _PROBE_FOLDER
            )

    def list_folders(self, folder: str) -> Iterator[str]:
        """The common prefixes below a folder."""
        with _translated():
            found = obstore.list_with_delimiter(  # pyright: ignore[reportUnknownMemberType]
                self._store, folder or None
            )
            yield from found["common_prefixes"]

    def list_objects(self, folder: str) -> Iterator[Sequence[Listed]]:
        """The objects of a folder, a page a request."""
        with _translated():
            pages = obstore.list(  # pyright: ignore[reportUnknownMemberType]
                self._store, folder, chunk_size=PAGE
            )
            for page in pages:
                yield [
                    Listed(item["path"], item["last_modified"], item["size"], item["e_tag"] or "")
                    for item in page
                ]

    def delete(self, keys: Sequence[str]) -> None:
        """One DeleteObjects."""
        if keys:
            with _translated():
                obstore.delete(self._store, keys)

    def remove_folder(self, folder: str) -> None:
        """Nothing to do: S3 has no folders."""

    def delete_temporaries(self, before: datetime) -> int:  # noqa: ARG002
        """None: a PutObject that was cut off leaves nothing."""
        return 0

    def close(self) -> None:
        """Nothing to do: connections close with the client."""


def _config(bucket: str, endpoint: str | None, options: S3Options) -> S3Config:
    config: S3Config = {"bucket": bucket}
    if not options.path_style:
        config["virtual_hosted_style_request"] = True
    if endpoint is not None:
        address = endpoint if options.path_style else endpoints.of_bucket(endpoint, bucket)
        config["endpoint"] = address
        config["aws_endpoint_url_s3"] = address  # or the environment's would win over the setting
    if options.encryption is not None:
        config["server_side_encryption"] = options.encryption
    if options.encryption == "aws:kms":
        config["sse_bucket_key_enabled"] = True  # one request to KMS serves many objects
    if options.kms_key_id is not None:
        config["sse_kms_key_id"] = options.kms_key_id
    return config


def _client_options(endpoint: str | None, limits: Limits) -> ClientConfig:
    return {
        "allow_http": endpoints.is_plain_http(endpoint),
        "connect_timeout": timedelta(seconds=limits.connect),
        "timeout": timedelta(seconds=limits.attempt),
    }


def _retry_config(limits: Limits) -> RetryConfig:
    return {
        "max_retries": limits.retries,
        "retry_timeout": timedelta(seconds=limits.retry_window),
        "backoff": {
            "init_backoff": timedelta(milliseconds=100),
            "max_backoff": timedelta(seconds=2),
            "base": 2,
        },
    }


@contextmanager
def _translated(missing: BlobNotFound | None = None) -> Generator[None]:
    """Turn obstore's errors into BlobsUnavailable, with S3's code and nothing else of its text.

    A missing key, or a range after the end, raises `missing` where that is given.
    """
    try:
        yield
    except (BaseError, OSError) as error:
        text = str(error)
        code = _reason(text)
        if missing is not None and _is_missing(error, code):
            raise missing from None
        if code in _FULL:
            raise BlobsFull(f"the object storage is full: {code}") from error
        raise BlobsUnavailable(f"the object storage does not work: {code}") from error


def _reason(text: str) -> str:
    code, status = _CODE.search(text), _STATUS.search(text)
    if code is not None:
        return code[1] or code[2]
    return f"status {status[1]}" if status else "no answer"


def _is_missing(error: Exception, code: str) -> bool:
    if code in ("InvalidRange", "status 416"):
        return True
    return isinstance(error, FileNotFoundError) and code != "NoSuchBucket"
