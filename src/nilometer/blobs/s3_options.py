"""What a bucket of S3 wants of requests, beside who sends them."""

from __future__ import annotations

from dataclasses import dataclass

from nilometer.errors import ConfigurationError

KMS = ("aws:kms", "aws:kms:dsse")


@dataclass(frozen=True, slots=True)
class S3Options:
    """How requests name the bucket, and how S3 encrypts what is put.

    `path_style` puts the bucket into the path and not into the host name. `encryption` is `AES256`,
    `aws:kms` or `aws:kms:dsse`, sent with every put; None leaves it to the bucket. `kms_key_id` is
    the key's id or ARN; None takes the account's own key. Raises ConfigurationError for a key
    without KMS.
    """

    path_style: bool = True
    encryption: str | None = None
    kms_key_id: str | None = None

    def __post_init__(self) -> None:
        if self.kms_key_id is not None and self.encryption not in KMS:
            raise ConfigurationError(
                "a KMS key encrypts only with NILOMETER_S3_ENCRYPTION=aws:kms or aws:kms:dsse",
                attr="s3_kms_key_id",
            )
