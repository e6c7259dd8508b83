"""What an event of PostHog's JSON protocols says, wherever its clients put it: pure rules.

Aliases and fallbacks are those of the original service (`capture.md`, section 2, "JSON batch
paths"). The door asks them to refuse, the mapper to fill rows: they must agree.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

KEY_FIELDS = ("api_key", "token", "$token")
"""Where an event may carry its client's key, in the order of their say."""

IDENTIFY = "$identify"
"""The name of an update of a person (`/engage`), which is sent without one."""

_FLAGS = {"true": True, "1": True, "false": False, "0": False}


def properties_of(event: Mapping[str, Any]) -> dict[str, Any]:
    """The event's properties; none at all are an empty object. Raises TypeError for others."""
    properties = event.get("properties")
    if properties is None:
        return {}
    if not isinstance(properties, dict):
        raise TypeError("the properties are not a JSON object")
    return cast("dict[str, Any]", properties)


def name_of(event: Mapping[str, Any], *, engage: bool) -> str:
    """The event's name, "" when it has none."""
    name = event.get("event")
    if engage and name is None:
        return IDENTIFY
    return name if isinstance(name, str) else ""


def distinct_id_of(event: Mapping[str, Any], properties: Mapping[str, Any]) -> str:
    """Whom the event is about: `distinct_id`, `$distinct_id`, or the property of the first name.

    Any JSON value is an identity: what is not a string is its compact JSON text. "" when there is
    none.
    """
    for holder, field in (
        (event, "distinct_id"),
        (event, "$distinct_id"),
        (properties, "distinct_id"),
    ):
        value = holder.get(field)
        if isinstance(value, str):
            return value
        if value is not None:
            return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return ""


def offset_of(event: Mapping[str, Any]) -> int | None:
    """How many milliseconds before it was received the event happened, if that is what it says."""
    offset = event.get("offset")
    return offset if type(offset) is int and abs(offset) < 1 << 53 else None


def options_of(event: Mapping[str, Any]) -> dict[str, Any]:
    """The options of an event of the v1 protocol, flags as booleans where they can be one: `"1"`
    and `"true"` are true, so is any number but 0. What is no flag stays as it was sent."""
    options = event.get("options")
    if not isinstance(options, dict):
        return {}
    return {name: _flag(value) for name, value in cast("dict[str, Any]", options).items()}


def _flag(value: Any) -> Any:
    if isinstance(value, str):
        return _FLAGS.get(value.strip().lower(), value)
    return value != 0 if isinstance(value, (int, float)) else value
