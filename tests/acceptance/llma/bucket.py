"""The deployment's bucket, read directly: what is stored must not depend on who reads it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import boto3
from botocore.config import Config

from tests.acceptance.llma.blob import BlobUrl, StoredPart, parse_part
from tests.acceptance.llma.configuration import Configuration


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object's metadata."""

    content_type: str
    size: int
    metadata: dict[str, str]


class Bucket:
    """Reads objects. It changes nothing: what a test made, deleting its team takes away."""

    def __init__(self, configuration: Configuration) -> None:
        self.name = configuration.bucket
        self.client: Any = boto3.client(
            "s3",
            endpoint_url=configuration.s3_endpoint,
            region_name=configuration.region,
            aws_access_key_id=configuration.access_key_id,
            aws_secret_access_key=configuration.secret_access_key,
            config=Config(s3={"addressing_style": "path"}),
        )

    def head(self, key: str) -> StoredObject:
        """An object's metadata, without its bytes."""
        answer = self.client.head_object(Bucket=self.name, Key=key)
        return StoredObject(answer["ContentType"], answer["ContentLength"], answer["Metadata"])

    def get(self, key: str) -> bytes:
        """A whole object."""
        return self.client.get_object(Bucket=self.name, Key=key)["Body"].read()

    def get_range(self, url: BlobUrl) -> bytes:
        """The bytes that a blob URL names, by one ranged request."""
        assert url.bucket == self.name, url
        answer = self.client.get_object(
            Bucket=self.name, Key=url.key, Range=f"bytes={url.start}-{url.end}"
        )
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 206
        return answer["Body"].read()

    def get_part(self, url: BlobUrl) -> StoredPart:
        """The blob that a URL names, decoded."""
        return parse_part(self.get_range(url))

    def keys(self, prefix: str) -> list[str]:
        """The keys below a prefix."""
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.name, Prefix=prefix
        )
        return [item["Key"] for page in pages for item in page.get("Contents", ())]

    def keys_of_team(self, team_id: int) -> list[str]:
        """The keys of a team's objects, of every retention."""
        return [key for top in self._prefixes() for key in self.keys(f"{top}{team_id}/")]

    def close(self) -> None:
        """Close the connections."""
        self.client.close()

    def _prefixes(self) -> Iterator[str]:
        """`llma/`, and its siblings for other retentions (`llma-90d/`)."""
        answer = self.client.list_objects_v2(Bucket=self.name, Prefix="llma", Delimiter="/")
        yield from (item["Prefix"] for item in answer.get("CommonPrefixes", ()))
