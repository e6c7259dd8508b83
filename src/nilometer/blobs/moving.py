"""Objects of one store as another would have stored them.

A file has its metadata as the line after its end; in a bucket the metadata is the object's own, and
the line is there only when the index of the parts is too long for that (see `codec`). The bytes up
to there are the same, so ranges that events name stay true.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from nilometer.blobs.codec import (
    EncodedObject,
    EncodedPart,
    ObjectMetadata,
    epilogue,
    user_metadata,
)
from nilometer.blobs.keys import ObjectName

_BOUNDARY = re.compile(rb"--([\x21-\x7e]{1,200})\r\n")
_RANGE = re.compile(r"(\d{1,15})-(\d{1,15})")


def taken_apart(name: ObjectName, data: bytes) -> tuple[ObjectMetadata, EncodedObject]:
    """The metadata and the object of a file's bytes. What has no readable metadata, because its
    disk damaged it, is the object whole, described by its name: the ranges of it still hold."""
    end = data.rfind(b"\n", 0, -1) + 1
    try:
        fields = json.loads(data[end:])
        parts = tuple(_part(each) for each in fields["parts"])
        metadata = ObjectMetadata(
            int(fields["team_id"]), str(fields["event_id"]), str(fields["upload_timestamp"])
        )
    except (ValueError, KeyError, TypeError):
        unknown = ObjectMetadata(name.day.project_id, name.event_id, "")
        return unknown, EncodedObject(_content_type(data), (), [data])
    return metadata, EncodedObject(_content_type(data), parts, [data[:end]])


def as_stored(scheme: str, metadata: ObjectMetadata, encoded: EncodedObject) -> Sequence[bytes]:
    """The bytes that a store of this scheme has of an object."""
    if scheme == "s3" and user_metadata(metadata, encoded.parts)[1]:
        return encoded.buffers
    return [*encoded.buffers, epilogue(metadata, encoded.parts)]


def _content_type(data: bytes) -> str:
    boundary = _BOUNDARY.match(data)
    return "multipart/mixed" + (f"; boundary={boundary[1].decode()}" if boundary else "")


def _part(fields: dict[str, Any]) -> EncodedPart:
    """A part as its object's index tells it. Its sizes are not in there."""
    found = _RANGE.fullmatch(fields["range"])
    if found is None:
        raise ValueError("not a range")
    return EncodedPart(
        name=str(fields["name"]),
        content_type=str(fields["type"]),
        content_encoding=fields.get("encoding"),
        compressed_here=fields.get("encoded_by") == "nilometer",
        size=0,
        stored_size=0,
        start=int(found[1]),
        end=int(found[2]),
    )
