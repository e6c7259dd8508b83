"""What a project's redaction rules make of what the doors accepted, before any of it is kept.

Pure, and much work for a large text: the doors call it off the event loop. Whatever goes wrong in
here refuses the request: what could not be redacted is not kept.
"""

from __future__ import annotations

import codecs
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from email.message import Message
from typing import Any

from nilometer.access.types import ProjectConfig
from nilometer.blobs.types import BlobPart
from nilometer.capture.ai_event import AiEvent
from nilometer.capture.blob_parts import BLOB_PREFIX
from nilometer.capture.decompression import decoder_for
from nilometer.capture.provenance import UNKNOWN_ADDRESS
from nilometer.capture.refusals import DecodingFault, ParsingFault, TooBig
from nilometer.conventions.content_names import (
    EVENT_LAYOUT,
    EVENT_WITHOUT_CONTENT,
    LITELLM_LAYOUT,
    LITELLM_WITHOUT_CONTENT,
    PROPERTIES_LAYOUT,
    PROPERTIES_WITHOUT_CONTENT,
)
from nilometer.domain import json_text
from nilometer.domain.json_text import InvalidJson
from nilometer.domain.litellm_record import LiteLLMItem
from nilometer.domain.posthog_record import PostHogEvent
from nilometer.domain.redaction.layout import Layout
from nilometer.domain.redaction.reading import read_rules
from nilometer.domain.redaction.redactor import Redactor, redactor_of
from nilometer.domain.redaction.rules import CONTENT, replacement

_BINARY = "application/octet-stream"


def redactor_for(project: ProjectConfig) -> Redactor | None:
    """The project's redactor, None when it has no rules. Raises RedactionUnavailable."""
    return None if project.redaction is None else redactor_of(project.redaction)


def kept_address(redactor: Redactor | None, address: str) -> str:
    """The address of a sender, as far as the rules let it be kept."""
    hidden = redactor is not None and redactor.hides(address)
    return UNKNOWN_ADDRESS if hidden else address


def redacted_texts(redactor: Redactor, *texts: str | None) -> list[str | None]:
    """What a request says beside its events."""
    return [text and redactor.name(text, Counter()) for text in texts]


def redacted_events(events: Sequence[PostHogEvent], redactor: Redactor) -> tuple[PostHogEvent, ...]:
    """Events of PostHog's JSON protocols."""
    layout = EVENT_LAYOUT if redactor.keeps_content else EVENT_WITHOUT_CONTENT
    return tuple(_event(event, redactor, layout) for event in events)


def redacted_payloads(items: Sequence[LiteLLMItem], redactor: Redactor) -> tuple[LiteLLMItem, ...]:
    """LiteLLM's payloads, those among them that are none."""
    layout = LITELLM_LAYOUT if redactor.keeps_content else LITELLM_WITHOUT_CONTENT
    return tuple(_payload(item, redactor, layout) for item in items)


def _event(event: PostHogEvent, redactor: Redactor, layout: Layout) -> PostHogEvent:
    counts: Counter[str] = Counter()
    text = _json(event.text, redactor, counts, layout)
    return replace(event, text=text, redacted=dict(counts)) if counts else event


def _payload(item: LiteLLMItem, redactor: Redactor, layout: Layout) -> LiteLLMItem:
    counts: Counter[str] = Counter()
    text = _json(item.text, redactor, counts, layout)
    return replace(item, text=text, redacted=dict(counts)) if counts else item


def redacted_ai_event(event: AiEvent, redactor: Redactor, most: int) -> AiEvent:
    """An event of the ai door with its blobs, each of at most `most` bytes when decoded.

    Without content there are no blobs; one that a rule names is replaced by a property that says
    so. Raises ParsingFault and TooBig for a blob that cannot be looked into.
    """
    return _AiRedaction(redactor, most).event(event)


def tried(text: str, rules: Mapping[str, Any]) -> tuple[str, dict[str, int]]:
    """What rules make of a text, or of an event that is given as JSON, and how often each was
    applied. Raises InvalidRules."""
    read = read_rules(rules)
    if read is None:
        return text, {}
    redactor, counts = redactor_of(read), Counter[str]()
    if not _is_event(text):
        return redactor.text(text, counts), dict(counts)
    layout = EVENT_LAYOUT if redactor.keeps_content else EVENT_WITHOUT_CONTENT
    return redactor.json(text, counts, layout), dict(counts)


def _is_event(text: str) -> bool:
    try:
        value = json_text.loads(text.encode())
    except (InvalidJson, UnicodeEncodeError):
        return False
    return isinstance(value, dict) and "properties" in value


@dataclass(slots=True)
class _Blob:
    """What became of a blob: a part, or the text of a property in its place, or nothing."""

    part: BlobPart | None = None
    value: str | None = None


class _AiRedaction:
    def __init__(self, redactor: Redactor, most: int) -> None:
        self._redactor = redactor
        self._most = most
        self._counts: Counter[str] = Counter()

    def event(self, event: AiEvent) -> AiEvent:
        keeps = self._redactor.keeps_content
        layout = EVENT_LAYOUT if keeps else EVENT_WITHOUT_CONTENT
        text = _json(event.text, self._redactor, self._counts, layout)
        properties = event.properties_text
        if properties is not None:
            layout = PROPERTIES_LAYOUT if keeps else PROPERTIES_WITHOUT_CONTENT
            properties = _json(properties, self._redactor, self._counts, layout)
        blobs = [(part.name, self._blob(part)) for part in event.blobs]
        values = {name: blob.value for name, blob in blobs if blob.value is not None}
        if values and properties is not None:
            properties = json_text.with_members(properties.decode(), values).encode()
        elif values:
            text = _with_properties(text, values)
        return replace(
            event,
            text=text,
            properties_text=properties,
            blobs=tuple(blob.part for _, blob in blobs if blob.part is not None),
            redacted=dict(self._counts),
        )

    def _blob(self, part: BlobPart) -> _Blob:
        if not self._redactor.keeps_content:
            self._counts[CONTENT] += 1
            return _Blob()
        rule = self._redactor.rule_of(part.name)
        if rule:
            self._counts[rule] += 1
            return _Blob(value=json.dumps(replacement(rule), ensure_ascii=False))
        data = given = _decoded(part, self._most)
        for charset in _charsets(part, data):
            data = self._text_of(data, charset)
        if data is given:
            return _Blob(part)
        return _Blob(replace(part, content_encoding=None, chunks=[data]))

    def _text_of(self, data: bytes, charset: str) -> bytes:
        """The octets, redacted as a text in this encoding; themselves where no rule applies."""
        if not _is_text(data, charset):
            charset = "latin-1"
        text = data.decode(charset)
        told = self._redactor.text(text, self._counts)
        return data if told is text else told.encode(charset, "replace")


def _json(text: bytes, redactor: Redactor, counts: Counter[str], layout: Layout) -> bytes:
    given = text.decode()
    told = redactor.json(given, counts, layout)
    return text if told is given else told.encode()


def _with_properties(text: bytes, values: dict[str, str]) -> bytes:
    """The event with more members in the properties that it embeds."""
    members = json_text.members(text.decode())
    members["properties"] = json_text.with_members(members["properties"], values)
    return json_text.with_members("{}", members).encode()


def _decoded(part: BlobPart, most: int) -> bytes:
    """The bytes of a blob without its client's compression."""
    try:
        decoder = decoder_for((part.content_encoding or "").encode())
        if decoder is None:
            return b"".join(part.chunks)
        blocks: list[bytes] = []
        size = 0
        for chunk in part.chunks:
            for block in decoder.decode(chunk):
                size += len(block)
                if size > most:
                    raise TooBig(f"a blob of more than {most} bytes when decompressed")
                blocks.append(block)
        decoder.finish()
    except DecodingFault as fault:
        raise ParsingFault(
            "the project's redaction rules cannot be applied to the blob part "
            f"'{BLOB_PREFIX}{part.name}': {fault.detail}",
            code="unreadable_blob",
            attr=f"{BLOB_PREFIX}{part.name}",
        ) from None
    return b"".join(blocks)


def _charsets(part: BlobPart, data: bytes) -> list[str]:
    """The encodings in which a blob may be a text, none for what is binary.

    The one that its type names comes first. Nearly any octets are a text in some encodings, so
    whatever the type says, they are then read as UTF-8 too, and byte by byte where they are not
    that, so that what is ASCII in them is found.
    """
    message: Message[Any, Any] = Message()
    message["Content-Type"] = part.content_type
    if message.get_content_type() == _BINARY:
        return ["utf-8"] if b"\0" not in data and _is_text(data, "utf-8") else []
    named = message.get_content_charset("utf-8")
    return [named, "utf-8"] if _is_text(data, named) and not _is_utf8(named) else ["utf-8"]


def _is_utf8(charset: str) -> bool:
    return codecs.lookup(charset).name == "utf-8"


def _is_text(data: bytes, charset: str) -> bool:
    try:
        data.decode(charset)
    except (ValueError, LookupError):
        return False
    return True
