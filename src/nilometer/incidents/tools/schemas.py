"""JSON Schemas of what tools take and give (draft 2020-12), enforced.

A schema that somebody gave may not have anything fetched, nor take long: references stay within it,
patterns are of a kind whose time is linear in the text, and what the rest costs is counted before a
value is held against it, because nothing else runs meanwhile (`schema_effort`). What is said of a
violation are the schema's words alone, never a value or a name that came from outside.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import jsonschema_rs

from nilometer.errors import InvalidInput
from nilometer.incidents.tools.schema_effort import SchemaEffort, TooMuchWork

MAX_SCHEMA_BYTES = 32 * 1024
_MAX_TOLD = 100_000
"""Units of work: to find which rule is broken takes longer the deeper a value is."""
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
        _compiled(text)
    except TooMuchWork as error:
        raise InvalidInput(
            f"values cannot be held against this schema: {error}; nest and repeat less, and have "
            "references lead to what is in a value, not round in a circle",
            attr=attr,
        ) from None
    except (ValueError, jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError):
        raise InvalidInput(
            "this is not a JSON Schema that can be used: its references must stay within it and "
            "its patterns be simple",
            attr=attr,
        ) from None
    return given


def objection(schema: Mapping[str, Any], value: Any) -> str | None:
    """Why a schema does not take a value, as what a sentence goes on with ("breaks /type of"), None
    if it does. What is told of a rule is its JSON pointer into the schema."""
    try:
        validator, effort = _compiled(json.dumps(schema))
        work = effort.of(value)
    except TooMuchWork as error:
        return f"cannot be checked ({error}) against"
    try:
        if validator.is_valid(value):
            return None
        if work > _MAX_TOLD:
            return "breaks"
        validator.validate(value)
    except UnicodeEncodeError:  # half of a surrogate pair is no text
        return "breaks"
    except jsonschema_rs.ValidationError as error:
        return f"breaks /{'/'.join(str(part) for part in error.schema_path)} of"
    return "breaks"


@lru_cache(maxsize=512)
def _compiled(text: str) -> tuple[jsonschema_rs.Draft202012Validator, SchemaEffort]:
    """Raises TooMuchWork, and what the validator's maker does."""
    validator = jsonschema_rs.Draft202012Validator(
        json.loads(text),
        retriever=_fetch_nothing,
        pattern_options=jsonschema_rs.RegexOptions(size_limit=1 << 20),
    )
    effort = SchemaEffort(json.loads(text))
    effort.check()
    return validator, effort


def _fetch_nothing(uri: str) -> Any:  # noqa: ARG001
    raise ValueError("references stay within a schema")
