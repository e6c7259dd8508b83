"""The parts of an AI event request, checked in the contract's order as they arrive.

Steps 7 to 12 of section 2. Memory is bounded by the limits of section 3: past a limit a part's
bytes are counted and no longer kept, so that the answer can still name the exact size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, cast

from nilometer.blobs.types import BlobPart
from nilometer.capture.blob_parts import BLOB_PREFIX, blob_property, shown
from nilometer.capture.multipart import FormParser, Part
from nilometer.capture.part_body import PartBody
from nilometer.capture.refusals import ParsingFault, TooBig
from nilometer.domain import json_text
from nilometer.domain.json_text import InvalidJson

JsonObject: TypeAlias = dict[str, Any]

EVENT: Final = "event"
PROPERTIES: Final = "event.properties"


@dataclass(frozen=True, slots=True)
class FormLimits:
    """The limits of section 3, in bytes, and the settings that shape the parts."""

    event: int
    event_and_properties: int
    parts: int
    part_count: int
    blobs: bool


@dataclass(frozen=True, slots=True)
class AiForm:
    """The parts of a complete request.

    `event` and `properties` are the raw texts and their values beside them; `properties` is None
    without such a part. `accepted` describes every part in arrival order, for the answer.
    """

    event: bytes
    event_value: JsonObject
    properties: bytes | None
    properties_value: JsonObject | None
    blobs: tuple[BlobPart, ...]
    accepted: list[dict[str, str | int | None]]


class AiFormReader:
    """Feeds on the decoded body; `finish` gives the form.

    `admit` is called with the distinct_id as soon as the event part is read (step 9) and may
    refuse or drop the request by raising.

    Between two chunks it holds bytes only, never what they were parsed to: a parsed value can take
    twenty times its text, and a client may let us wait for the next chunk. So the properties are
    parsed by `finish`; when `feed` raises, `check_unread` tells whether they were at fault first.
    """

    def __init__(self, boundary: str, limits: FormLimits, admit: Callable[[str], None]) -> None:
        self._parser = FormParser(boundary, max_parts=limits.part_count)
        self._limits = limits
        self._admit = admit
        self._part: Part | None = None
        self._body = PartBody()
        self._total = 0
        self._event: bytes | None = None
        self._event_value: JsonObject | None = None  # dropped between two chunks
        self._properties: list[bytes] = []
        self._properties_size = 0
        self._blobs: list[BlobPart] = []
        self._blob_names: set[str] = set()
        self._accepted: list[dict[str, str | int | None]] = []

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes. Raises DecodingFault, ParsingFault, TooBig, or what `admit` does."""
        for event in self._parser.feed(chunk):
            if isinstance(event, bytes):
                self._take(event)
            elif event is None:
                self._end_part()
            else:
                self._begin_part(event)
        if not self._parser.ended:
            self._event_value = None

    @property
    def unread(self) -> int:
        """Bytes of properties that are still to be parsed."""
        return sum(map(len, self._properties))

    def check_unread(self) -> JsonObject | None:
        """Parse the properties that have arrived whole; the value of the last that did.

        Raises ParsingFault if any of them is not as the contract wants.
        """
        value = None
        for text in self._properties:
            value = None  # one value at a time
            value = _properties_object(text)
        return value

    def finish(self) -> AiForm:
        """The body has ended: the form. Raises as `feed`."""
        properties = self.check_unread()
        self._parser.finish()
        if self._event is None:
            raise ParsingFault(
                "Missing required 'event' part in multipart data",
                code="missing_event",
                attr=EVENT,
            )
        self._check_sizes(len(self._event))
        value = self._event_value or _event_object(self._event)
        if self._properties and "properties" in value:
            raise ParsingFault(
                "Event cannot have both embedded properties and a separate 'event.properties' part",
                code="properties_twice",
                attr=PROPERTIES,
            )
        return AiForm(
            event=self._event,
            event_value=value,
            properties=self._properties[-1] if self._properties else None,
            properties_value=properties,
            blobs=tuple(self._blobs),
            accepted=self._accepted,
        )

    def _begin_part(self, part: Part) -> None:
        name = part.field
        if self._event is None:
            if name != EVENT:
                raise ParsingFault(
                    f"First part must be 'event', got '{shown(name)}'",
                    code="event_not_first",
                    attr=EVENT,
                )
        elif name == EVENT:
            raise ParsingFault("Duplicate 'event' part found", code="duplicate_part", attr=EVENT)
        elif name == PROPERTIES:
            pass  # it may be repeated; the last one wins
        elif self._limits.blobs and name.startswith(BLOB_PREFIX) and name != BLOB_PREFIX:
            blob_property(part, self._blob_names)
        else:
            raise ParsingFault(
                f"Unknown multipart field: '{shown(name)}'. Expected 'event', "
                "'event.properties', or 'event.properties.<property_name>'",
                code="unknown_part",
            )
        self._part = part
        self._body = PartBody()

    def _take(self, chunk: bytes) -> None:
        body = self._body
        body.add(chunk)
        self._total += len(chunk)
        if body.keep and (self._total > self._limits.parts or body.size > self._part_limit()):
            body.drop()

    def _part_limit(self) -> int:
        """How much of the open part is worth keeping."""
        if self._event is None:
            return self._limits.event
        if self._part is not None and self._part.field == PROPERTIES:
            return self._limits.event_and_properties - len(self._event)
        return self._limits.parts

    def _end_part(self) -> None:
        part = cast("Part", self._part)
        if self._event is None:
            self._end_event()
        elif part.field == PROPERTIES:
            self._end_properties()
        else:
            self._end_blob(part)
        self._accepted.append(
            {
                "name": part.field,
                "length": self._body.size,
                "content-type": part.headers.get("Content-Type"),
                "content-encoding": part.headers.get("Content-Encoding"),
            }
        )
        self._part = None

    def _end_event(self) -> None:
        size, limit = self._body.size, self._limits.event
        if size > limit:
            raise TooBig(
                f"Event part size ({size} bytes) exceeds maximum allowed size ({limit} bytes)",
                attr=EVENT,
            )
        text = self._body.joined()
        value = _event_object(text)
        for field in ("event", "distinct_id"):
            if not isinstance(value.get(field), str):
                raise ParsingFault(
                    f"Event missing '{field}' field", code="missing_field", attr=field
                )
        self._event, self._event_value = text, value
        self._admit(value["distinct_id"])

    def _end_properties(self) -> None:
        self._properties_size = self._body.size
        if self._body.keep:  # else too large, as the end will say
            self._properties.append(self._body.joined())

    def _end_blob(self, part: Part) -> None:
        if self._body.size == 0:
            raise ParsingFault(
                f"Blob part '{part.field}' cannot be empty (0 bytes)",
                code="empty_blob",
                attr=part.field,
            )
        self._body.seal()
        self._blobs.append(
            BlobPart(
                name=part.field.removeprefix(BLOB_PREFIX),
                content_type=part.headers["Content-Type"],
                content_encoding=part.headers.get("Content-Encoding"),
                chunks=self._body.chunks,
            )
        )

    def _check_sizes(self, event_size: int) -> None:
        combined, limit = event_size + self._properties_size, self._limits.event_and_properties
        if combined > limit:
            raise TooBig(
                f"Combined event and properties size ({combined} bytes) exceeds maximum allowed "
                f"size ({limit} bytes)",
                attr=PROPERTIES,
            )
        if self._total > self._limits.parts:
            raise TooBig(
                f"Sum of all parts ({self._total} bytes) exceeds maximum allowed size "
                f"({self._limits.parts} bytes)"
            )


def _event_object(text: bytes) -> JsonObject:
    return _json_object(text, "Event part", "Event", EVENT)


def _properties_object(text: bytes) -> JsonObject:
    return _json_object(text, "Properties part", "Properties", PROPERTIES)


def _json_object(text: bytes, part: str, noun: str, attr: str) -> JsonObject:
    try:
        value = json_text.loads(text)
    except InvalidJson as error:
        kind = "JSON" if _is_utf8(text) else "UTF-8"
        raise ParsingFault(
            f"{part} must be valid {kind}: {error}", code="invalid_json", attr=attr
        ) from None
    if not isinstance(value, dict):
        raise ParsingFault(f"{noun} must be a JSON object", code="invalid_json", attr=attr)
    return cast("JsonObject", value)


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
