"""From what callers and providers' libraries hand over to what a metric holds. A call must not go
uncounted because a note about it is odd, so nothing here raises."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, cast

from nilometer.domain.metric_rules import MAX_ERROR_CHARS
from nilometer.sdk.credentials import without_credentials
from nilometer.sdk.scopes import bounded, clean

MAX_METADATA_BYTES = 16_384
"""Of the metadata's JSON text: more is left out, and the metadata says so."""

LEFT_OUT = "metadata_bytes_left_out"
_MAX_DEPTH = 32


def name(value: Any) -> str | None:
    """A name or id as a metric holds it, None for none."""
    return None if value is None else bounded(value)


def error_text(error: BaseException | str) -> str:
    """What an error says, of bounded length and without credentials; its class' name where it says
    nothing."""
    if isinstance(error, str):
        return clean(without_credentials(error, MAX_ERROR_CHARS))
    try:
        text = str(error)
    except Exception:  # noqa: BLE001  (an exception of the caller's, which cannot say what it is)
        text = ""
    return clean(without_credentials(text, MAX_ERROR_CHARS)) or type(error).__name__


def metadata(given: Mapping[str, Any]) -> dict[str, Any]:
    """A copy in JSON's values, of bounded size."""
    found = cast("dict[str, Any]", json_value(given))
    size = len(json.dumps(found))
    return found if size <= MAX_METADATA_BYTES else {LEFT_OUT: size}


def json_value(value: Any, depth: int = 0) -> Any:
    """The value, or the nearest of JSON's: other objects become text."""
    if value is None or type(value) in (bool, int):
        return value
    if type(value) is float and math.isfinite(value):
        return value
    if type(value) is str:
        return clean(value)
    if depth < _MAX_DEPTH:
        if isinstance(value, Mapping):
            members = cast("Mapping[Any, Any]", value)
            return {clean(str(key)): json_value(each, depth + 1) for key, each in members.items()}
        if isinstance(value, (list, tuple, set, frozenset)):
            return [json_value(each, depth + 1) for each in cast("list[Any]", value)]
    return _text(value)


def raw_usage(given: Any) -> dict[str, Any] | None:
    """A provider's usage object as a mapping: one already, a Pydantic model, or what has `to_dict`
    or attributes. None for what cannot be one."""
    if isinstance(given, Mapping):
        return _members(cast("Mapping[str, Any]", given))
    for dump in _DUMPS:
        found = _attempt(dump, given)
        if isinstance(found, Mapping):
            return _members(cast("Mapping[str, Any]", found))
    return None


def _attempt(dump: Callable[[Any], Any], given: Any) -> Any:
    try:
        return dump(given)
    except Exception:  # noqa: BLE001  (a stranger's object; the next way may read it)
        return None


def _members(found: Mapping[str, Any]) -> dict[str, Any]:
    return cast("dict[str, Any]", json_value(found))


_DUMPS: tuple[Callable[[Any], Any], ...] = (
    lambda given: given.model_dump(mode="json", exclude_none=True),
    lambda given: given.to_dict(),
    vars,
)


def _text(value: Any) -> str:
    try:
        return clean(str(value))
    except Exception:  # noqa: BLE001  (an object of the caller's that cannot say what it is)
        return f"<{type(value).__name__}>"
