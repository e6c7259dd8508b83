"""Values as clients send them: JSON as text, ids packed into one, URLs with keys in them.

Readers never raise, and their work is bounded by the value's size.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, cast
from urllib.parse import urlsplit, urlunsplit

from nilometer.conventions import typed_values
from nilometer.domain.span import MAX_DEPTH, plain

MAX_LITERAL_CHARS = 8192  # ast.literal_eval takes ten times the memory of its text
_MAX_INT_DIGITS = 20
_MAX_BRACKETS = 1 << 17
_MAX_KEPT_CHARS = 512


def parsed(value: Any) -> Any:
    """A JSON text's list or object; any other value as it is.

    Text that JSON's grammar, 64-bit integers, doubles or `MAX_DEPTH` levels do not hold stays text.
    """
    if not isinstance(value, str):
        return value
    if not value.lstrip()[:1].startswith(("[", "{")):
        return value
    brackets = value.count("[") + value.count("{")
    if brackets > _MAX_BRACKETS:
        return value
    try:
        read = _DECODER.decode(value)
    except (ValueError, RecursionError):
        return value
    if brackets > MAX_DEPTH and _depth(read) > MAX_DEPTH:
        return value
    return value if _has_half_pairs(value, read) else read


def mapping(value: Any) -> dict[str, Any] | None:
    """An object, from itself, its JSON, or the text that Python's `str` gives of it."""
    read = parsed(value)
    if isinstance(read, str) and len(read) <= MAX_LITERAL_CHARS and read.startswith("{"):
        try:
            read = plain(ast.literal_eval(read))
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            return None
    return cast("dict[str, Any]", read) if isinstance(read, dict) else None


def within(value: Any, path: Iterable[str]) -> Any:
    """What is at a path of members, None where the path ends early."""
    for name in path:
        if not isinstance(value, dict):
            return None
        value = cast("dict[str, Any]", value).get(name)
    return value


def claude_code_ids(value: Any) -> tuple[str | None, str | None]:
    """The (account, session) in the user id that Claude Code sends, (None, None) in any other.

    Now it is JSON, `{"device_id": …, "account_uuid": …, "session_id": …}`; it was
    `user_<hash>_account_<uuid>_session_<uuid>`.
    """
    if not isinstance(value, str):
        return None, None
    # The same few are asked for again and again.
    return _known_ids(value) if len(value) <= _MAX_KEPT_CHARS else _ids(value)


def without_query(value: Any) -> str | None:
    """A URL without user, query and fragment, where keys hide; a bare host as it is."""
    text = typed_values.name(value)
    if text is None or not {"@", "?", "#"} & set(text):
        return text
    try:
        parts = urlsplit(text)
    except ValueError:
        return None
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _ids(value: str) -> tuple[str | None, str | None]:
    if value.startswith("{"):
        ids = parsed(value)
        if isinstance(ids, dict):
            known = cast("dict[str, Any]", ids)
            account = known.get("account_uuid") or known.get("device_id")
            return typed_values.normalise_id(account), typed_values.name(known.get("session_id"))
        return None, None
    account, mark, session = value.partition("_session_")
    if not mark or not account.startswith("user_"):
        return None, None
    user, _, uuid = account.partition("_account_")
    return typed_values.name(uuid or user), typed_values.name(session)


_known_ids = lru_cache(1024)(_ids)


def _has_half_pairs(text: str, value: Any) -> bool:
    """Whether what was parsed holds half of a surrogate pair, which UTF-8 cannot."""
    if "\\ud" not in text and "\\uD" not in text:
        return False
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def _depth(value: Any) -> int:
    """Levels of lists and objects, counted up to one more than are kept."""
    level: list[Any] = [value]
    depth = 0
    while level and depth <= MAX_DEPTH:
        inner = [_members(item) for item in level]
        level = [item for items in inner if items is not None for item in items]
        depth += any(items is not None for items in inner)
    return depth


def _members(value: Any) -> Iterable[Any] | None:
    if isinstance(value, dict):
        return cast("dict[str, Any]", value).values()
    return cast("list[Any]", value) if isinstance(value, list) else None


def _int64(digits: str) -> int:
    if len(digits) <= _MAX_INT_DIGITS and -(1 << 63) <= (number := int(digits)) < 1 << 64:
        return number
    raise ValueError("an integer beyond 64 bits")


def _double(text: str) -> float:
    number = float(text)
    if number in _INFINITIES:
        raise ValueError("a number beyond a double")
    return number


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_INFINITIES = {float("inf"), float("-inf")}
_DECODER = json.JSONDecoder(
    parse_int=_int64, parse_float=_double, parse_constant=_no_constant, strict=False
)
