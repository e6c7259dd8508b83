"""Redaction rules from JSON, checked whole: what cannot be carried out is never set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from nilometer.domain.redaction.patterns import BUILTINS, InvalidPattern, compiled
from nilometer.domain.redaction.rules import CONTENT, Content, CustomPattern, RedactionRules
from nilometer.errors import InvalidInput

MAX_PATTERNS = 50
"""Of one project, built-in ones included."""
MAX_REGEX = 1000
"""The longest pattern, in characters."""
MAX_KEYS = 100
MAX_KEY = 200
"""The longest key name, in characters."""
MAX_NAME = 40
_MEMBERS = ("patterns", "keys", "content")


class InvalidRules(InvalidInput):
    """Not redaction rules. `attr` is the place of what is wrong."""

    code = "invalid_redaction"


def read_rules(value: Any) -> RedactionRules | None:
    """The rules of `{"patterns": […], "keys": […], "content": "keep" | "none"}`, each member
    optional; None where they say nothing. Raises InvalidRules.

    A pattern is the name of a built-in one, or `{"name": …, "regex": …}`.
    """
    members = _object(value, "redaction", _MEMBERS)
    builtins: list[str] = []
    custom: list[CustomPattern] = []
    patterns = _list(members.get("patterns"), "redaction.patterns", MAX_PATTERNS)
    for place, given in enumerate(patterns):
        at = f"redaction.patterns.{place}"
        if isinstance(given, str):
            builtins.append(_builtin(given, at))
        else:
            custom.append(_custom(given, at))
        _check_once([*builtins, *(own.name for own in custom)], at)
    keys: list[str] = []
    for place, given in enumerate(_list(members.get("keys"), "redaction.keys", MAX_KEYS)):
        keys.append(_key(given, f"redaction.keys.{place}"))
        _check_once([key.casefold() for key in keys], f"redaction.keys.{place}")
    rules = RedactionRules(
        tuple(builtins), tuple(custom), tuple(keys), _content(members.get("content", "keep"))
    )
    return rules if rules.names else None


def _builtin(name: str, at: str) -> str:
    if name not in BUILTINS:
        raise InvalidRules(
            f"{at}: no built-in pattern has this name; there are {', '.join(BUILTINS)}. A pattern "
            'of your own is {"name": …, "regex": …}.',
            attr=at,
        )
    return name


def _custom(given: Any, at: str) -> CustomPattern:
    members = _object(given, at, ("name", "regex"))
    name, regex = members.get("name"), members.get("regex")
    if not isinstance(name, str) or not _is_name(name):
        raise InvalidRules(
            f"{at}.name: give a name of 1 to {MAX_NAME} small letters, digits and underscores, of "
            "no built-in pattern",
            attr=f"{at}.name",
        )
    if not isinstance(regex, str) or not 1 <= len(regex) <= MAX_REGEX:
        raise InvalidRules(
            f"{at}.regex: give a pattern of 1 to {MAX_REGEX} characters", attr=f"{at}.regex"
        )
    try:
        made = compiled(regex)
    except InvalidPattern as error:
        raise InvalidRules(f"{at}.regex ({name}): {error}", attr=f"{at}.regex") from None
    if made.search(b"") is not None:
        raise InvalidRules(
            f"{at}.regex ({name}): it matches the empty text, and so everywhere", attr=f"{at}.regex"
        )
    return CustomPattern(name, regex)


def _is_name(name: str) -> bool:
    plain = name.isascii() and name.replace("_", "a").isalnum() and name == name.lower()
    return plain and len(name) <= MAX_NAME and name not in BUILTINS and name != CONTENT


def _key(given: Any, at: str) -> str:
    key = given if isinstance(given, str) else ""
    if not 1 <= len(key) <= MAX_KEY or not key.isprintable() or {'"', "\\"} & set(key):
        raise InvalidRules(
            f"{at}: give a name of 1 to {MAX_KEY} printable characters, without quotes and "
            "backslashes",
            attr=at,
        )
    return key


def _content(given: Any) -> Content:
    if given not in (Content.KEEP, Content.NONE):
        raise InvalidRules('redaction.content: "keep" or "none"', attr="redaction.content")
    return Content(given)


def _check_once(names: list[str], at: str) -> None:
    if len(set(names)) != len(names):
        raise InvalidRules(f"{at}: it is there twice", attr=at)


def _list(given: Any, at: str, most: int) -> list[Any]:
    if given is None:
        return []
    if not isinstance(given, list):
        raise InvalidRules(f"{at}: it must be a list", attr=at)
    items = cast("list[Any]", given)
    if len(items) > most:
        raise InvalidRules(f"{at}: at most {most}", attr=at)
    return items


def _object(given: Any, at: str, known: tuple[str, ...]) -> Mapping[str, Any]:
    if not isinstance(given, dict):
        raise InvalidRules(f"{at}: it must be an object", attr=at)
    members = cast("dict[str, Any]", given)
    for name in members:
        if name not in known:
            raise InvalidRules(
                f"{at}: it has an unknown member; there are {', '.join(known)}", attr=at
            )
    return members
