"""What the properties of an AI event must be: the published JSON Schemas, enforced.

The schemas are the files in `schemas/`, generated from the dictionary of properties
(`conventions/ai_properties.py`) by `scripts/schemas`; what is published is what is enforced.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from importlib import resources
from typing import Any

import jsonschema_rs

from nilometer.conventions.ai_properties import BY_NAME, EVENT_TYPES, PROPERTIES, Property
from nilometer.conventions.json_schema import schema_name
from nilometer.conventions.kinds import JSON, MESSAGE, OBJECT, TEXT
from nilometer.errors import InvalidInput

MAX_VIOLATIONS_SHOWN = 3
_MAX_SHOWN_CHARS = 64
_MAX_SHOWN_BITS = 64
_KINDS_OF_BLOBS = (JSON, OBJECT, TEXT, MESSAGE)
_FAMILIES = tuple(known for known in PROPERTIES if known.is_family)


class SchemaViolation(InvalidInput):
    """A property is not what the event's schema says.

    `attr` is the JSON path of the first offending property, such as
    `properties.$ai_input_tokens`; `detail` names up to three of them, each with what was expected
    and what came. Values are never shown, but for short numbers: they may be prompts.
    """

    code = "schema_violation"


def check(event_name: str, properties: dict[str, Any], *, strict: bool = False) -> None:
    """Accept an event's properties, as parsed from JSON, or raise SchemaViolation.

    With `strict`, properties that the schema does not know are refused too. Names that the
    standard SDKs add to every event are in the schema; a user's own are not. A valid event costs
    a few microseconds, whatever the size of its values.
    """
    if event_name not in EVENT_TYPES:
        raise SchemaViolation(f"event must be one of {', '.join(EVENT_TYPES)}", attr="event")
    validator = _validator(event_name, strict)
    try:
        if validator.is_valid(properties):
            return
        violations = sorted(_violations(validator, properties, event_name))
    except UnicodeEncodeError:
        raise SchemaViolation(
            "the name of a property holds half of a surrogate pair: send valid Unicode",
            attr="properties",
        ) from None
    raise SchemaViolation(_detail(violations), attr=violations[0].path)


def check_blobs(event_name: str, names: Iterable[str], *, strict: bool = False) -> None:
    """Accept the names of an event's blobs, or raise SchemaViolation.

    What a blob leaves in the event is its URL. So it may stand for a text or a document, but not
    for a number, an id or whatever else has a column; with `strict`, only for a known property.
    """
    violations = sorted(_blob_violations(event_name, names, strict=strict))
    if violations:
        raise SchemaViolation(_detail(violations), attr=violations[0].path)


@cache
def schemas() -> Mapping[str, bytes]:
    """The published schemas: name (`ai_generation.v1`) to JSON text in UTF-8."""
    folder = resources.files("nilometer.capture") / "schemas"
    names = [schema_name(event) for event in EVENT_TYPES]
    return {name: (folder / f"{name}.json").read_bytes() for name in names}


@dataclass(frozen=True, slots=True, order=True)
class _Violation:
    path: str
    reason: str


@cache
def _validator(event_name: str, strict: bool) -> jsonschema_rs.Validator:
    document = json.loads(schemas()[schema_name(event_name)])
    schema = document["properties"]["properties"]
    if strict:
        schema["additionalProperties"] = False
    return jsonschema_rs.Draft202012Validator(schema)


def _violations(
    validator: jsonschema_rs.Validator, properties: dict[str, Any], event_name: str
) -> Iterator[_Violation]:
    for error in validator.iter_errors(properties):
        match error.kind:
            case jsonschema_rs.ValidationErrorKind.AdditionalProperties(unexpected=names):
                yield from _unknown(names, event_name)
            case jsonschema_rs.ValidationErrorKind.Required(property=name):
                yield _Violation(_path(name), "is missing: send it")
            case _:
                name = str(error.instance_path[0])
                yield _Violation(_path(name), _mismatch(name, properties[name]))


def _blob_violations(
    event_name: str, names: Iterable[str], *, strict: bool
) -> Iterator[_Violation]:
    for name in names:
        known = _known(name)
        if known is None:
            if strict:
                yield from _unknown([name], event_name)
        elif known.column is not None or known.kind not in _KINDS_OF_BLOBS:
            reason = f"must be {known.kind.expected}, but is a blob: send it in the properties"
            yield _Violation(_path(name), reason)


def _unknown(names: Iterable[str], event_name: str) -> Iterator[_Violation]:
    reason = (
        f"is not in the schema {schema_name(event_name)}: leave it out, or have the server accept "
        "unknown properties (NILOMETER_STRICT_SCHEMA=0)"
    )
    return (_Violation(_path(name), reason) for name in names)


def _mismatch(name: str, value: Any) -> str:
    known = _known(name)
    assert known is not None  # an unknown property is never a mismatch
    expected, remedy = known.kind.expected, known.kind.remedy
    if known.required:
        expected += ", not empty"
    else:
        remedy += ", or leave it out"
    return f"must be {expected}, but is {_described(value)}: {remedy}"


def _known(name: str) -> Property | None:
    if name in BY_NAME:
        return BY_NAME[name]
    return next((known for known in _FAMILIES if name.startswith(known.name[:-1])), None)


def _described(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() | float() | Decimal():
            return _described_number(value)
        case str():
            return f"a string of {len(value)} characters" if value else "an empty string"
        case dict():
            return "an object"
        case _:
            return "an array"


def _described_number(value: float | Decimal) -> str:
    if isinstance(value, int):
        return str(value) if value.bit_length() <= _MAX_SHOWN_BITS else "a larger number"
    written = str(value)
    if written in ("inf", "-inf"):
        return "a number too large for a double"
    return written if len(written) <= _MAX_SHOWN_CHARS else "a number of many digits"


def _path(name: str) -> str:
    shown = name if len(name) <= _MAX_SHOWN_CHARS else name[: _MAX_SHOWN_CHARS - 3] + "..."
    return f"properties.{shown if shown.isprintable() else ascii(shown)}"


def _detail(violations: list[_Violation]) -> str:
    shown = [f"{violation.path} {violation.reason}" for violation in violations]
    more = len(shown) - MAX_VIOLATIONS_SHOWN
    ending = f"; and {more} more" if more > 0 else ""
    return "; ".join(shown[:MAX_VIOLATIONS_SHOWN]) + ending
