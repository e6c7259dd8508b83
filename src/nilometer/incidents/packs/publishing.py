"""The JSON Schema of packs, as it is published: what an editor checks a pack by."""

from __future__ import annotations

from functools import cache
from typing import Any

import orjson

from nilometer.incidents.packs.pack import Pack

NAME = "incident_pack.v1"


@cache
def schema_text() -> bytes:
    """The schema (draft 2020-12) as JSON text."""
    return orjson.dumps(schema(), option=orjson.OPT_INDENT_2)


def schema() -> dict[str, Any]:
    """The schema. It says of what form a pack is; whether its expressions can be evaluated, and its
    names lead somewhere, is told by reading it."""
    made = Pack.model_json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Nilometer domain pack",
        **{name: each for name, each in made.items() if name != "title"},
    }
