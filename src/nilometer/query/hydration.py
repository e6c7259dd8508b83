"""Hydration: an event's blobs put back into its properties, where their URLs stand.

What cannot be put back leaves the URL, and its outcome says why: a reader of one expired prompt
still wants the rest of the event.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from enum import StrEnum
from typing import Any

import orjson

from nilometer.blobs.store import BlobStore
from nilometer.blobs.types import (
    BlobContent,
    BlobExpired,
    BlobNotFound,
    BlobsUnavailable,
    BlobTooLarge,
)
from nilometer.domain import json_text
from nilometer.domain.ai_record import BlobReference
from nilometer.errors import InvalidInput
from nilometer.query.events import Event

# One answer holds so much hydrated text, all its events together.
MAX_BYTES = 64 * 1024**2


class Outcome(StrEnum):
    """What became of one blob."""

    INLINED = "inlined"
    EXPIRED = "expired"  # its retention has ended
    MISSING = "missing"  # it is not in the storage
    TOO_LARGE = "too_large"  # it does not fit the answer; read it by its URL
    UNREADABLE = "unreadable"  # not in the encoding that its client declared, or an unknown one
    UNAVAILABLE = "unavailable"  # the storage did not answer; try again


@dataclass(slots=True)
class Budget:
    """The bytes of hydrated text that an answer may still take."""

    left: int = MAX_BYTES

    def take(self, size: int) -> bool:
        """Take so many bytes, if there are as many left."""
        if size > self.left:
            return False
        self.left -= size
        return True


@dataclass(frozen=True, slots=True)
class Hydrated:
    """An event's properties with what could be put back, and each blob's outcome by name."""

    properties: str
    outcomes: Mapping[str, Outcome]


async def hydrate(event: Event, blobs: BlobStore, budget: Budget) -> Hydrated:
    """Put the blobs of an event back: JSON as its exact text, text as a string, anything else as
    a `data:` URL. Takes what it used from the budget. Never raises over a blob."""
    texts: dict[str, str] = {}
    outcomes: dict[str, Outcome] = {}
    for blob in event.blobs:
        text = await _fetch(event.project_id, blob, blobs, budget.left)
        if isinstance(text, Outcome):
            outcomes[blob.name] = text
            continue
        budget.left -= len(text)
        texts[blob.name], outcomes[blob.name] = text, Outcome.INLINED
    properties = event.properties
    if texts:
        properties = await asyncio.to_thread(_replaced, properties, texts)
    return Hydrated(properties, outcomes)


async def _fetch(
    project_id: int, blob: BlobReference, blobs: BlobStore, left: int
) -> str | Outcome:
    if blob.size > left:
        return Outcome.TOO_LARGE
    content = await read_all(project_id, blob.url, blobs, left)
    if isinstance(content, Outcome):
        return content
    text = await asyncio.to_thread(_json_of, content)
    return text if len(text) <= left else Outcome.TOO_LARGE


async def read_all(project_id: int, url: str, blobs: BlobStore, left: int) -> BlobContent | Outcome:
    """A blob of at most `left` bytes, decoded, or why it cannot be had."""
    try:
        content = await blobs.read_all(project_id, url, limit=left)
    except BlobExpired:
        return Outcome.EXPIRED
    except BlobNotFound:
        return Outcome.MISSING
    except BlobTooLarge:
        return Outcome.TOO_LARGE
    except BlobsUnavailable:
        return Outcome.UNAVAILABLE
    except InvalidInput:
        return Outcome.UNREADABLE
    return content if content.content_encoding is None else Outcome.UNREADABLE


def _json_of(content: BlobContent) -> str:
    media_type, charset = _media_type(content.content_type)
    if media_type == "application/json" or media_type.endswith("+json"):
        try:
            json_text.loads(content.data)
        except json_text.InvalidJson:
            return _text(content, charset) or _data_url(content, media_type)
        return content.data.decode()
    if media_type.startswith("text/"):
        return _text(content, charset) or _data_url(content, media_type)
    return _data_url(content, media_type)


def _text(content: BlobContent, charset: str) -> str | None:
    """The JSON string of a text, or None when its bytes are not in its charset."""
    try:
        return orjson.dumps(content.data.decode(charset)).decode()
    except (UnicodeDecodeError, LookupError, TypeError):
        return None


def _data_url(content: BlobContent, media_type: str) -> str:
    data = base64.b64encode(content.data).decode()
    return orjson.dumps(f"data:{media_type};base64,{data}").decode()


def _media_type(declared: str) -> tuple[str, str]:
    """The media type and charset of a Content-Type; octets for one that is none."""
    message: Message[Any, Any] = Message()
    message["Content-Type"] = declared.replace("\r", " ").replace("\n", " ")
    known = "/" in declared.partition(";")[0]
    media_type = message.get_content_type() if known else "application/octet-stream"
    return media_type, message.get_content_charset("utf-8")


def _replaced(properties: str, texts: Mapping[str, str]) -> str:
    members = json_text.members(properties) | dict(texts)
    return "{" + ",".join(f"{_string(name)}:{text}" for name, text in members.items()) + "}"


def _string(text: str) -> str:
    return orjson.dumps(text).decode()
