"""The blobs that the settings name."""

from __future__ import annotations

from collections.abc import Callable

from nilometer.blobs.backend import Limits
from nilometer.blobs.s3_options import S3Options
from nilometer.blobs.store import BlobStore, open_store
from nilometer.settings import Settings


def configured(
    settings: Settings,
    limits: Limits | None = None,
    failed: Callable[[int], None] = lambda _: None,
) -> BlobStore:
    """Open the store of a deployment, which the caller closes; `failed` as `BlobStore`'s. Raises
    ConfigurationError."""
    return open_store(
        settings.effective_blobs_url,
        bucket=settings.blobs_bucket,
        s3_endpoint=settings.s3_endpoint,
        s3_options=S3Options(
            path_style=settings.s3_path_style,
            encryption=settings.s3_encryption,
            kms_key_id=settings.s3_kms_key_id,
        ),
        max_read_bytes=settings.max_blob_read_bytes,
        max_waiting_bytes=settings.max_inflight_bytes,
        disk_reserve=settings.disk_reserve,
        max_put_bytes=settings.max_parts_bytes,
        limits=limits or Limits.within(settings.blobs_timeout),
        failed=failed,
    )
