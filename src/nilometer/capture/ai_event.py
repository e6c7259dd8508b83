"""From the parts of a request to an identified event: the contract's structure rules, then ours.

Step 13 of section 2; then the JSON Schema of the event type, so that the contract's texts win.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from nilometer.blobs.types import BlobPart
from nilometer.capture import schema
from nilometer.capture.ai_form import AiForm, JsonObject
from nilometer.capture.blob_parts import BLOB_PREFIX, shown
from nilometer.capture.refusals import ParsingFault
from nilometer.domain.identity import canonical_uuid, distinct_id_fault

EVENT_NAMES = (
    "$ai_generation",
    "$ai_trace",
    "$ai_span",
    "$ai_embedding",
    "$ai_metric",
    "$ai_feedback",
)


@dataclass(frozen=True, slots=True)
class AiEvent:
    """One acceptable event, without the values that its texts were parsed to: those take up to
    twenty times the bytes that the request's room counts.

    `uuid` is canonical; `internal` says that its address is not kept. `text` and `properties_text`
    are the parts as they came, the latter None when the event embeds its properties. `accepted`
    describes every part in arrival order, for the answer. `redacted` is how often each redaction
    rule was applied.
    """

    uuid: str
    internal: bool
    text: bytes
    properties_text: bytes | None
    blobs: tuple[BlobPart, ...]
    accepted: list[dict[str, str | int | None]]
    redacted: Mapping[str, int] = field(default_factory=dict[str, int])

    @property
    def size(self) -> int:
        """Bytes of its texts and blobs."""
        return len(self.text) + len(self.properties_text or b"") + sum(b.size for b in self.blobs)


def identify(form: AiForm, *, strict: bool) -> AiEvent:
    """The event of a form. `strict` refuses properties that no schema knows.

    Raises ParsingFault, or SchemaViolation for a property that is not as its schema says.
    """
    event = form.event_value
    name = _name(event)
    check_distinct_id(event["distinct_id"])
    properties = _properties(form)
    _check_model(properties)
    uuid = _uuid(event)
    for blob in form.blobs:
        if blob.name in properties:
            raise _fault(
                f"Blob property '{BLOB_PREFIX}{blob.name}' is already a property of the event; "
                "send it once",
                "property_twice",
                f"{BLOB_PREFIX}{blob.name}",
            )
    schema.check(name, properties, strict=strict)
    schema.check_blobs(name, (blob.name for blob in form.blobs), strict=strict)
    return AiEvent(
        uuid=uuid,
        internal="capture_internal" in properties,
        text=form.event,
        properties_text=form.properties,
        blobs=form.blobs,
        accepted=form.accepted,
    )


def _name(event: JsonObject) -> str:
    name: str = event["event"]
    if not name:
        raise _fault("Event name cannot be empty", "invalid_event_name", "event")
    check_ai_name(name)
    return name


def check_distinct_id(distinct_id: str) -> None:
    """Not empty, at most 1,000 bytes, without control characters. Raises ParsingFault."""
    if fault := distinct_id_fault(distinct_id):
        raise _fault(f"distinct_id {fault}", "invalid_distinct_id", "distinct_id")


def check_ai_name(name: str) -> None:
    """One of the six event types. Raises ParsingFault."""
    if name not in EVENT_NAMES:
        raise _fault(
            f"Event name must be one of: {', '.join(EVENT_NAMES)}, got '{shown(name)}'",
            "invalid_event_name",
            "event",
        )


def _properties(form: AiForm) -> JsonObject:
    if form.properties_value is not None:
        return form.properties_value
    properties: Any = form.event_value.get("properties")
    if properties is None:
        raise _fault("Event missing 'properties' field", "missing_field", "properties")
    if not isinstance(properties, dict):
        raise _fault("Event 'properties' must be a JSON object", "invalid_properties", "properties")
    return cast("JsonObject", properties)


def _check_model(properties: JsonObject) -> None:
    attr = "properties.$ai_model"
    if "$ai_model" not in properties:
        raise _fault("Event properties must contain '$ai_model'", "missing_model", attr)
    model = properties["$ai_model"]
    if not isinstance(model, str):
        raise _fault("$ai_model must be a string", "invalid_model", attr)
    if not model:
        raise _fault("$ai_model cannot be empty", "invalid_model", attr)


def _uuid(event: JsonObject) -> str:
    uuid = event.get("uuid")
    if not isinstance(uuid, str):
        raise _fault("Event UUID is required", "missing_uuid", "uuid")
    try:
        return canonical_uuid(uuid)
    except ValueError as error:
        raise _fault(f"Invalid UUID format: {error}", "invalid_uuid", "uuid") from None


def _fault(detail: str, code: str, attr: str) -> ParsingFault:
    return ParsingFault(detail, code=code, attr=attr)
