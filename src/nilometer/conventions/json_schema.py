"""The published JSON Schemas, made from the dictionary of properties."""

from __future__ import annotations

import json
from typing import Any

from nilometer.conventions.ai_properties import PROPERTIES, Property

VERSION = 1
_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_TITLES = {
    "$ai_generation": "A generation: one request to a model that generates.",
    "$ai_trace": "A trace: one run of a feature, the root of its spans.",
    "$ai_span": "A span: one step within a trace.",
    "$ai_embedding": "An embedding: one request to a model that embeds.",
    "$ai_metric": "A metric: one measure of a trace or a generation.",
    "$ai_feedback": "Feedback: what a person said of a trace or a generation.",
}


def schema_name(event: str) -> str:
    """The name under which an event type's schema is published: `ai_generation.v1`."""
    return f"{event.removeprefix('$')}.v{VERSION}"


def document(event: str) -> dict[str, Any]:
    """The schema of one whole event of a type, its properties merged.

    Known properties are typed and, unless required, may be null, which SDKs send for "unknown".
    Unknown properties are allowed.
    """
    name = event.removeprefix("$")
    return {
        "$schema": _DRAFT,
        "$id": f"urn:nilometer:schema:{name}:v{VERSION}",
        "title": _TITLES[event],
        "description": f"Version {VERSION} of the {event} event, its properties merged into it.",
        "type": "object",
        "required": ["event", "uuid", "distinct_id", "properties"],
        "properties": {**_envelope(event), "properties": _properties(event)},
        "additionalProperties": True,
    }


def text(event: str) -> str:
    """The schema as it is committed and published."""
    return json.dumps(document(event), indent=2, ensure_ascii=False) + "\n"


def _envelope(event: str) -> dict[str, Any]:
    return {
        "event": {"const": event, "title": "event", "description": "The event's type."},
        "uuid": {
            "type": "string",
            "minLength": 1,
            "title": "uuid",
            "description": "The event's identity, a UUID. Sent again, the first one accepted wins.",
        },
        "distinct_id": {
            "type": "string",
            "minLength": 1,
            "title": "distinct_id",
            "description": "Who it is about: a user, or the trace's id.",
        },
        "timestamp": {
            "title": "timestamp",
            "description": "When it happened, ISO 8601; without a zone it is UTC. What does not "
            "parse counts as absent, and then the time of acceptance is used.",
        },
        "sent_at": {
            "title": "sent_at",
            "description": "When it was sent, by the clock of timestamp; corrects that clock.",
        },
    }


def _properties(event: str) -> dict[str, Any]:
    # What the type usually carries comes first.
    ordered = sorted(PROPERTIES, key=lambda known: event not in known.events)
    return {
        "type": "object",
        "title": "properties",
        "description": "The event's properties; the known ones are typed, others are kept.",
        "required": [known.name for known in ordered if known.required],
        "properties": {
            known.name: _property(known, event) for known in ordered if not known.is_family
        },
        "patternProperties": {
            _family(known): _property(known, event) for known in ordered if known.is_family
        },
        "additionalProperties": True,
    }


def _property(known: Property, event: str) -> dict[str, Any]:
    schema: dict[str, Any] = {"title": known.name, "description": known.description}
    schema |= _required(known) if known.required else _nullable(known)
    if event not in known.events:
        schema["$comment"] = f"Not usual on {event}."
    return schema


def _required(known: Property) -> dict[str, Any]:
    return {**known.kind.schema, "minLength": 1}


def _nullable(known: Property) -> dict[str, Any]:
    schema = dict(known.kind.schema)
    if "type" in schema:
        types = schema["type"]
        schema["type"] = [*([types] if isinstance(types, str) else types), "null"]
    if "enum" in schema:
        schema["enum"] = [*schema["enum"], None]
    return schema


def _family(known: Property) -> str:
    return "^" + known.name.removesuffix("*").replace("$", r"\$")
