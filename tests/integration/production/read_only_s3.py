"""A bucket of which only the objects of one team can be read, a little of each.

The rules are handlers of botocore's events, which every operation of a client passes twice: with
its parameters before anything is built of them, and as the finished request before it is sent.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote, urlsplit

import boto3
from botocore.config import Config

from tests.integration.production.configuration import Configuration
from tests.integration.production.pace import Pace
from tests.integration.production.refused import Refused

OPERATIONS = frozenset({"HeadObject", "GetObject"})
MAX_READ = 4096
"""The longest range that can be read at once, in bytes."""
TIMEOUT = 30
_RANGE = re.compile(r"bytes=(\d+)-(\d+)")


class NotARange(Exception):
    """The server answered with something else than the bytes that were asked for."""


class ReadOnlyBucket:
    """`bytes_read` counts what was downloaded of objects."""

    def __init__(self, configuration: Configuration, pace: Pace) -> None:
        self._bucket = configuration.bucket
        self._keys = team_keys(configuration.team_id)
        self._pace = pace
        self.bytes_read = 0
        self.client = _client(configuration)
        events = self.client.meta.events
        events.register_first("before-parameter-build.s3", self._check_parameters)
        events.register_first("before-send.s3", self._check_request)

    def head(self, key: str) -> dict[str, Any]:
        """The object's size (`ContentLength`), type and metadata, without its bytes."""
        return self.client.head_object(Bucket=self._bucket, Key=key)

    def read(self, key: str, start: int, end: int) -> bytes:
        """The bytes from `start` to `end`, both included. Raises NotARange."""
        asked = f"bytes={start}-{end}"
        answer = self.client.get_object(Bucket=self._bucket, Key=key, Range=asked)
        with answer["Body"] as body:
            if not answer.get("ContentRange", "").startswith(f"bytes {start}-{end}/"):
                raise NotARange(f"{asked} of {key}: {answer.get('ContentRange')}")
            found = body.read(end - start + 1)
        self.bytes_read += len(found)
        return found

    def _check_parameters(self, params: dict[str, Any], model: Any, **_: Any) -> None:
        if model.name not in OPERATIONS:
            raise Refused(model.name)
        if params.get("Bucket") != self._bucket or not self._keys.match(params.get("Key") or ""):
            raise Refused(f"{model.name} of what is not the team's")
        if model.name == "GetObject" and not _is_short(params.get("Range")):
            raise Refused(f"GetObject of more than {MAX_READ} bytes")

    def _check_request(self, request: Any, **_: Any) -> None:
        path = unquote(urlsplit(request.url).path).lstrip("/").removeprefix(f"{self._bucket}/")
        if request.method not in ("GET", "HEAD") or not self._keys.match(path):
            raise Refused(f"{request.method} as a request")
        self._pace.wait()


def team_keys(team_id: str) -> re.Pattern[str]:
    """Matches the keys of a team's objects: of the default retention, and of each other."""
    return re.compile(rf"llma(-\w+)?/{re.escape(team_id)}/(?!(.*/)?\.\.?(/|$))")


def _is_short(asked: str | None) -> bool:
    found = _RANGE.fullmatch(asked or "")
    return found is not None and int(found[2]) - int(found[1]) < MAX_READ


def _client(configuration: Configuration) -> Any:
    session = boto3.session.Session(
        aws_access_key_id=configuration.s3_key_id,
        aws_secret_access_key=configuration.s3_secret,
        region_name=configuration.region,
    )
    own = configuration.s3_endpoint is not None
    return session.client(
        "s3",
        endpoint_url=configuration.s3_endpoint,
        config=Config(
            connect_timeout=TIMEOUT,
            read_timeout=TIMEOUT,
            retries={"total_max_attempts": 2},
            response_checksum_validation="when_required",
            s3={"addressing_style": "path" if own else "auto"},
        ),
    )
