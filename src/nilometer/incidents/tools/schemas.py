"""JSON Schemas of what tools take and give (draft 2020-12), enforced.

A schema that somebody gave may not have anything fetched, nor take long: references stay within it,
and patterns are of a kind whose time is linear in the text. What is said of a violation are the
schema's words alone, never a value or a name that came from outside.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import jsonschema_rs

from nilometer.errors import InvalidInput

MAX_SCHEMA_BYTES = 32 * 1024
_DRAFT = "https://json-schema.org/draft/2020-12/schema"


def checked_schema(schema: Mapping[str, Any], attr: str) -> dict[str, Any]:
    """The schema, if it is one. Raises InvalidInput."""
    given = dict(schema)
    if given.get("$schema", _DRAFT) not in (_DRAFT, f"{_DRAFT}#"):
        raise InvalidInput(f"give a schema of draft 2020-12 ({_DRAFT})", attr=attr)
    text = json.dumps(given)
    if len(text) > MAX_SCHEMA_BYTES:
        raise InvalidInput(f"a schema has at most {MAX_SCHEMA_BYTES} bytes", attr=attr)
    try:
        _validator(text)
    except (ValueError, jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError):
        raise InvalidInput(
            "this is not a JSON Schema that can be used: its references must stay within it and "
            "its patterns be simple",
            attr=attr,
        ) from None
    return given


def violation(schema: Mapping[str, Any], value: Any) -> str | None:
    """Which of the schema's rules a value breaks (a JSON pointer into the schema), None if none."""
    validator = _validator(json.dumps(schema))
    try:
        if validator.is_valid(value):
            return None
        first = next(iter(validator.iter_errors(value)))
    except UnicodeEncodeError:  # half of a surrogate pair is no text
        return "/"
    return "/" + "/".join(str(part) for part in first.schema_path)


@lru_cache(maxsize=512)
def _validator(text: str) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(
        json.loads(text),
        retriever=_fetch_nothing,
        pattern_options=jsonschema_rs.RegexOptions(size_limit=1 << 20),
    )


def _fetch_nothing(uri: str) -> Any:  # noqa: ARG001
    raise ValueError("references stay within a schema")
