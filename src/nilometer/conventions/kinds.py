"""The kinds of property: for each, what JSON Schema accepts, how a person is told, and how its
column reads it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from nilometer.conventions import typed_values

ColumnType = Literal["text", "int64", "float64", "decimal", "flag"]
ColumnValue = str | int | float | bool | None


def _no_column(_: Any) -> ColumnValue:
    return None


@dataclass(frozen=True, slots=True)
class Kind:
    """What the values of a property are.

    `schema` is the JSON Schema of a value that is not null. `expected` completes the sentence
    "it must be …"; `remedy` says in a few words what to send instead. A kind whose `column_type`
    is None has no column, and its `read` is not used.
    """

    name: str
    schema: Mapping[str, Any]
    expected: str
    remedy: str = "send such a value"
    column_type: ColumnType | None = None
    read: Callable[[Any], ColumnValue] = _no_column


_UNQUOTED = "send a JSON number without quotes"

ID = Kind(
    "id",
    {"type": ["string", "number", "boolean"], "maxLength": typed_values.MAX_NAME_CHARS},
    f"a string of at most {typed_values.MAX_NAME_CHARS} characters (or a number or boolean, kept "
    "as text)",
    "send the id as a string",
    "text",
    typed_values.normalise_id,
)
NAME = Kind(
    "name",
    {"type": "string", "maxLength": typed_values.MAX_NAME_CHARS},
    f"a string of at most {typed_values.MAX_NAME_CHARS} characters",
    "send a string",
    "text",
    typed_values.name,
)
TEXT = Kind(
    "text",
    {"type": "string"},
    "a string",
    "send a string",
    "text",
    typed_values.text,
)
MESSAGE = Kind(
    "message",
    {"type": ["string", "object", "array"]},
    "a string, object or array",
    "send the error's text, or the error as an object",
    "text",
    typed_values.message,
)
COUNT = Kind(
    "count",
    {"type": "integer", "minimum": 0, "maximum": typed_values.MAX_INT64},
    f"a whole number from 0 to {typed_values.MAX_INT64}",
    _UNQUOTED,
    "int64",
    typed_values.count,
)
HTTP_STATUS = Kind(
    "HTTP status",
    {"type": "integer", "minimum": 0, "maximum": typed_values.MAX_HTTP_STATUS},
    f"a whole number from 0 (none known) to {typed_values.MAX_HTTP_STATUS}",
    _UNQUOTED,
    "int64",
    typed_values.http_status,
)
SECONDS = Kind(
    "seconds",
    {"type": "number", "minimum": 0, "maximum": typed_values.MAX_SECONDS},
    f"a number of seconds from 0 to {typed_values.MAX_SECONDS}",
    "send seconds (not milliseconds, not a time of day) as a JSON number",
    "float64",
    typed_values.seconds,
)
USD = Kind(
    "USD",
    {
        "type": ["number", "string"],
        "minimum": 0,
        "maximum": typed_values.MAX_USD,
        "pattern": f"^{typed_values.USD_PATTERN}$",
    },
    f"an amount from 0 to {typed_values.MAX_USD}, as a number or decimal string",
    "send US dollars as a number, or as a string such as '0.00012'",
    "decimal",
    typed_values.usd,
)
FLAG = Kind(
    "flag",
    {"enum": [True, False, "true", "false"]},
    "true or false",
    "send true or false",
    "flag",
    typed_values.flag,
)
NUMBER = Kind("number", {"type": "number"}, "a number", _UNQUOTED)
SCALAR = Kind("scalar", {"type": ["string", "number", "boolean"]}, "a string, number or boolean")
OBJECT = Kind("object", {"type": "object"}, "an object")
JSON = Kind("JSON", {}, "any JSON value")
