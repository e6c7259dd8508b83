"""The payload of a log record of the `ai` door, version 1: one event as its client sent it.

One line of JSON that says what follows, then the bytes of the `event` part and of the
`event.properties` part, untouched. Blobs are in object storage by then; the line lists where.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, cast

import orjson

from nilometer.domain import json_text
from nilometer.domain.redaction.marks import redacted_of, redaction_marks
from nilometer.errors import NilometerError

DOOR = "ai"
DOOR_VERSION = 1


class RecordBroken(NilometerError):
    """The payload does not have the layout that its door writes."""

    code = "record_broken"


@dataclass(frozen=True, slots=True)
class BlobReference:
    """One blob after it was made durable.

    `url` is `{scheme}://{bucket}/{key}?range={start}-{end}`, inclusive; the range covers the
    part's MIME headers, the blank line and the body. `size` is the size as received and
    `stored_size` as stored; `content_encoding` is the stored one, and `compressed_here` says that
    Nilometer, not the client, applied it.
    """

    name: str
    url: str
    content_type: str
    content_encoding: str | None
    size: int
    stored_size: int
    compressed_here: bool


@dataclass(frozen=True, slots=True)
class AiRecord:
    """An accepted event: the raw JSON texts of its parts, its blobs, and what the door knew.

    `properties` is None when the event part embeds them. `ip` is the client's address.
    `retention_days` is the project's at acceptance: a row's expiry is computed from it. `redacted`
    is how often each redaction rule was applied.
    """

    event: bytes
    properties: bytes | None
    blobs: tuple[BlobReference, ...]
    ip: str
    retention_days: int
    redacted: Mapping[str, int] = field(default_factory=dict[str, int])

    def encode(self) -> bytes:
        """The payload."""
        head = {
            "event_bytes": len(self.event),
            "properties_bytes": None if self.properties is None else len(self.properties),
            "blobs": [asdict(blob) for blob in self.blobs],
            "ip": self.ip,
            "retention_days": self.retention_days,
            **redaction_marks({0: self.redacted}),
        }
        return b"".join((orjson.dumps(head), b"\n", self.event, self.properties or b""))

    def properties_text(self) -> str:
        """The event's properties as one JSON object text, each blob's URL under its name.

        Every number and string keeps the text that the client sent.
        """
        if self.properties is not None:
            text = self.properties.decode()
        else:
            text = json_text.members(self.event.decode())["properties"]
        urls = {blob.name: orjson.dumps(blob.url).decode() for blob in self.blobs}
        return json_text.with_members(text, urls)


def decode(payload: bytes) -> AiRecord:
    """The record of a payload. Raises RecordBroken for any other layout."""
    line, newline, rest = payload.partition(b"\n")
    try:
        head = cast("dict[str, Any]", orjson.loads(line))
        event_bytes: int = head["event_bytes"]
        properties_bytes: int | None = head["properties_bytes"]
        blobs = tuple(BlobReference(**blob) for blob in head["blobs"])
        record = AiRecord(
            event=rest[:event_bytes],
            properties=None if properties_bytes is None else rest[event_bytes:],
            blobs=blobs,
            ip=str(head["ip"]),
            retention_days=int(head["retention_days"]),
            redacted=redacted_of(head).get(0, {}),
        )
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise RecordBroken(
            f"the record's first line is not as version 1 writes it: {error}"
        ) from None
    if not newline or len(rest) != event_bytes + (properties_bytes or 0):
        raise RecordBroken("the record's length is not what its first line says")
    return record
