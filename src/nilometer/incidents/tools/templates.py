"""URL and header templates: a fixed place to go to, with names in braces that a call fills in.

`{name}` is a member of the call's input, `{secrets.name}` a secret of the tool, `{execution_id}`
and `{incident_id}` are the call's. The host is never filled in: whoever raises an exception must
not choose where its tool connects to.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote

import httpx

from nilometer.errors import InvalidInput
from nilometer.incidents.tools.call import ToolCall
from nilometer.notifications.channels.http_post import checked_url

_NAME = re.compile(r"\{([A-Za-z_][A-Za-z0-9_.-]{0,99})\}")
_SECRET = "secrets."  # noqa: S105
_OF_CALL = ("execution_id", "incident_id")
_DOTS = frozenset({".", ".."})

Secrets = Mapping[str, tuple[str, ...]]


def checked_template(text: str, attr: str) -> httpx.URL:
    """The URL of a template, its names filled with a letter. Raises InvalidInput, which does not
    repeat it."""
    scheme, _, rest = text.partition("://")
    place = len(rest) - len(rest.lstrip("/"))
    end = next((i for i, each in enumerate(rest) if each in "/?#" and i >= place), len(rest))
    if set(scheme + rest[:end]) & set("{}"):
        raise InvalidInput("the scheme and the host of a URL are fixed", attr=attr)
    filled = _NAME.sub("x", text)
    if set(filled) & set("{}"):
        raise InvalidInput("in braces stands the name of an input member or a secret", attr=attr)
    _check_path(filled.partition("?")[0], attr)
    return checked_url(filled, attr)


def secrets_in(text: str) -> set[str]:
    """The names of the secrets that a template takes."""
    names = (match[1] for match in _NAME.finditer(text))
    return {name.removeprefix(_SECRET) for name in names if name.startswith(_SECRET)}


def check_header(text: str, attr: str) -> None:
    """Raises InvalidInput for a header's value that takes anything but secrets."""
    names = [match[1] for match in _NAME.finditer(text)]
    if any(not name.startswith(_SECRET) for name in names) or set(_NAME.sub("", text)) & set("{}"):
        raise InvalidInput("in braces a header takes secrets alone: {secrets.name}", attr=attr)
    if not text.isascii() or not text.isprintable() or text != text.strip():
        raise InvalidInput("a header's value is printable ASCII, not blank at its ends", attr=attr)


def header(text: str, secrets: Secrets) -> str:
    """A header's value. Raises InvalidInput for a secret that is not set."""
    return _NAME.sub(lambda match: _secret(match[1].removeprefix(_SECRET), secrets), text)


def url(text: str, call: ToolCall, given: Mapping[str, Any], secrets: Secrets) -> httpx.URL:
    """The URL of a call. Raises InvalidInput for what is missing in its input, or leads elsewhere:
    up in the path, or to what holds the thing that is meant."""
    path, mark, query = text.partition("?")
    filled = _filled(path, call, given, secrets, blank=False)
    _check_path(filled, "input")
    return checked_url(f"{filled}{mark}{_filled(query, call, given, secrets, blank=True)}", "input")


def _filled(
    text: str, call: ToolCall, given: Mapping[str, Any], secrets: Secrets, *, blank: bool
) -> str:
    def fill(match: re.Match[str]) -> str:
        value = _value(match[1], call, given, secrets)
        if not value and not blank:
            raise InvalidInput(f"{match[1]} is blank, and part of a path", attr=match[1])
        return quote(value, safe="")

    return _NAME.sub(fill, text)


def _value(name: str, call: ToolCall, given: Mapping[str, Any], secrets: Secrets) -> str:
    if name.startswith(_SECRET):
        return _secret(name.removeprefix(_SECRET), secrets)
    if name in _OF_CALL:
        return str(getattr(call, name))
    value = given.get(name)
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str | int | float):
        raise InvalidInput(f"the tool's URL takes {name}: a text or a number", attr=name)
    try:
        text = str(value)
        text.encode()
    except UnicodeEncodeError:
        raise InvalidInput(f"{name} holds half of a surrogate pair", attr=name) from None
    return text


def _secret(name: str, secrets: Secrets) -> str:
    values = secrets.get(name)
    if not values:
        raise InvalidInput(f"the tool's secret {name} is not set", attr=f"secrets.{name}")
    return values[0]


def _check_path(path: str, attr: str) -> None:
    # Segments of dots lead up: the library resolves them, and a server may, also those in %2e.
    if any(unquote(each) in _DOTS for each in path.split("/")):
        raise InvalidInput("a path has no segments that are dots", attr=attr)
