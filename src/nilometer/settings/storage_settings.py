"""Where what is captured is kept: blobs, the log, the store."""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings

from nilometer.settings.sizes import GIB, MIB


class StorageSettings(BaseSettings):
    """Blobs, the embedded log, the pipeline between log and store."""

    blobs_url: str | None = Field(
        None,
        description="file:///directory or s3://bucket; by default `blobs` in the data directory.",
    )
    blobs_bucket: str = Field(
        "nilometer",
        pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$",
        description="The bucket name in the URLs of file:// blobs.",
    )
    blobs_timeout: float = Field(
        30,
        ge=1,
        description="How long the blob storage may take over one put, tries included, before "
        "capture answers 503.",
    )
    s3_endpoint: str | None = Field(None, description="An S3 server other than Amazon's.")
    s3_path_style: bool = Field(
        True, description="Name the bucket in the path of S3 requests; off, in the host name."
    )
    s3_encryption: str | None = Field(
        None,
        pattern="^(AES256|aws:kms|aws:kms:dsse)$",
        description="Server-side encryption that every S3 put asks for: AES256, aws:kms or "
        "aws:kms:dsse; by default the bucket's own.",
    )
    s3_kms_key_id: str | None = Field(
        None, description="The KMS key of that encryption, by id or ARN; by default the account's."
    )
    retention_days: int = Field(30, gt=0, le=36500, description="For projects that set none.")
    sweep_interval: float = Field(
        3600, gt=0, description="Between two searches for expired and orphaned blobs."
    )
    orphan_grace: float = Field(
        24 * 3600, gt=0, description="Age at which a blob that no event names is deleted."
    )
    max_blob_read_bytes: int = Field(
        256 * MIB, gt=0, description="What a read decompresses one blob to, at most."
    )

    pack_above_bytes: int = Field(
        16 * 1024,
        ge=0,
        description="A value inside an event that is larger is kept beside it; 0 keeps none.",
    )

    log_segment_bytes: int = Field(
        64 * MIB, gt=0, description="Size at which the log goes on in a new file."
    )
    log_max_bytes: int = Field(20 * GIB, gt=0, description="At this size capture answers 503.")
    log_keep_hours: float = Field(24, ge=0, description="For segments that every group has read.")
    log_rewind_seconds: float = Field(
        3600, ge=0, description="How far the pipeline reads again after the machine went down."
    )
    disk_reserve: int = Field(
        64 * MIB, ge=0, description="Free disk below which capture answers 503."
    )

    pipeline_batch_records: int = Field(
        2000, gt=0, description="Records written to the store at once, at most."
    )
    pipeline_batch_bytes: int = Field(
        16 * MIB, gt=0, description="Bytes of records written to the store at once, at most."
    )
    pipeline_batch_events: int = Field(
        5000, gt=0, description="Events in those records at which a batch is full."
    )
    pipeline_linger: float = Field(
        0.2, ge=0, description="How long a batch waits for more records before it is written."
    )
    dead_letter_share: float = Field(
        0.5,
        gt=0,
        le=1,
        description="The share of recent events that may be dead-lettered before the pipeline "
        "stops and says so.",
    )
    dead_letter_window: int = Field(
        200, gt=0, description="Recent events over which that share is taken."
    )

    @field_validator("blobs_url")
    @classmethod
    def _check_blobs_url(cls, url: str | None) -> str | None:
        if url is None:
            return None
        parts = urlsplit(url)
        if parts.scheme == "s3" and not parts.netloc:
            raise ValueError("name a bucket: s3://bucket")
        if parts.scheme == "file" and (parts.netloc or not parts.path.startswith("/")):
            raise ValueError("give an absolute path: file:///directory")
        if parts.scheme == "s3" and parts.path.strip("/"):
            raise ValueError("give a bucket of its own, without a path: s3://bucket")
        if parts.scheme not in ("file", "s3"):
            raise ValueError("give file:///directory or s3://bucket")
        return url

    @field_validator("s3_endpoint")
    @classmethod
    def _check_s3_endpoint(cls, url: str | None) -> str | None:
        if url is None:
            return None
        try:
            parts = urlsplit(url)
            whole = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:  # whose text may repeat the value
            parts, whole = urlsplit(""), False
        if not whole:
            raise ValueError("give https://host, or http://host:port")
        if "@" in parts.netloc:
            raise ValueError(
                "give it without user and password: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY "
                "are for these"
            )
        return url
