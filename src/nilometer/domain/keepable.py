"""Values as every database, and every reader of JSON, can hold them.

NUL is in no text of PostgreSQL; JSON has no infinity; and of an integer beyond 64 bits readers keep
no more than its size (RFC 7493, section 2.2). Where a sender can be told so, it is refused. What
comes from elsewhere, and must not be lost for it, is changed as little as lets it be kept.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

INTEGERS = range(-(2**63), 2**64)
_REPLACEMENT = "\ufffd"


def text(value: str) -> str:
    """The text, with U+FFFD for each NUL."""
    return value.replace("\0", _REPLACEMENT)


def json_value(value: Any) -> Any:
    """The value of JSON, with U+FFFD for each NUL, in names too, and as text each number that
    cannot be kept."""
    if isinstance(value, str):
        return text(value)
    if isinstance(value, Mapping):
        items = cast("Mapping[str, Any]", value).items()
        return {text(name): json_value(each) for name, each in items}
    if isinstance(value, list | tuple):
        return [json_value(each) for each in cast("list[Any]", value)]
    return value if is_number_kept(value) else str(value)


def is_number_kept(value: object) -> bool:
    """Whether a value is no number that would come out otherwise than it went in."""
    if isinstance(value, float):
        return math.isfinite(value)
    # `True` is an int, and in the range.
    return not isinstance(value, int) or value in INTEGERS
