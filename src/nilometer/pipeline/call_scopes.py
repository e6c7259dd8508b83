"""Whom and what a call was for, as columns of its row: user, job, batch and the others.

They are written even where they say nothing new (`api_calls` 1, the operation's name), so that a
row that is mapped again equals the stored one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from nilometer.conventions import typed_values
from nilometer.domain.metric_rules import MAX_TAGS

_OPERATIONS = {"$ai_generation": "completion", "$ai_embedding": "embedding"}
_IDS = {
    "$ai_job_id": "job_id",
    "$ai_batch_id": "batch_id",
    "$ai_environment": "environment",
    "$ai_developer": "developer",
    "$ai_repository": "repository",
}
_USER = "$ai_user_id"


def scopes(name: str, properties: Mapping[str, Any], distinct_id: str) -> dict[str, Any]:
    """The columns of a call by the event of this name; those without a value are left out.

    The user is `$ai_user_id` where the event has it, none when that is null; else its distinct id,
    as for events of clients that have no such property.
    """
    columns: dict[str, Any] = {
        "operation_name": typed_values.name(properties.get("$ai_operation")) or _OPERATIONS[name],
        "api_calls": typed_values.count(properties.get("$ai_api_calls")) or 1,
        "user_id": (
            typed_values.normalise_id(properties[_USER]) or ""
            if _USER in properties
            else distinct_id
        ),
    }
    for sent, column in _IDS.items():
        if sent in properties and (value := typed_values.normalise_id(properties[sent])):
            columns[column] = value
    if "$ai_tags" in properties and (tags := _tags(properties["$ai_tags"])):
        columns["tags"] = tags
    return columns


def _tags(value: Any) -> list[str]:
    """The tags of a list, or `name:value` of an object, each once and in order; at most 64."""
    if isinstance(value, Mapping):
        pairs = cast("Mapping[str, Any]", value).items()
        given: Sequence[Any] = [f"{key}:{each}" for key, each in pairs if isinstance(each, str)]
    else:
        given = cast("Sequence[Any]", value) if isinstance(value, list) else []
    return sorted({tag for each in given if (tag := typed_values.name(each))})[:MAX_TAGS]
