"""What of a tool's input and output may be kept: neither its secrets nor what the project redacts.

A receiver may send back what it was sent, a header with a password included; so secrets are taken
out of whatever came from outside before anybody sees it. And what no database or reader of JSON can
hold is brought into a form that they can: what was done must not stay unrecorded for it.
"""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, cast
from urllib.parse import quote

from nilometer.domain import keepable
from nilometer.domain.redaction.redactor import redactor_of
from nilometer.domain.redaction.rules import CONTENT, RedactionRules, replacement
from nilometer.incidents.tools.resolving import Resolved

_SHORTEST = 4
"""A secret of fewer characters would take too much else out of a text."""


def kept(tool: Resolved, value: Mapping[str, Any]) -> dict[str, Any]:
    """The object as it can and may be stored and shown. Raises RedactionUnavailable."""
    held = keepable.json_value(value)
    return _redacted(tool.rules, _without_secrets(tool, held) if tool.secrets else held)


def masked(tool: Resolved, text: str) -> str:
    """A text without the tool's secrets."""
    return _masking(tool, [text])(text)


def _without_secrets(tool: Resolved, value: dict[str, Any]) -> dict[str, Any]:
    texts: list[str] = []

    def seen(text: str) -> str:
        texts.append(text)
        return text

    _mapped(value, seen)
    return _mapped(value, _masking(tool, texts)) if texts else value


def _masking(tool: Resolved, texts: Collection[str]) -> Callable[[str], str]:
    """What takes the tool's secrets out of these texts.

    All texts are searched at once, and each then only for what is in one of them: this is done in
    a transaction. (A pattern of all secrets takes hundreds of times longer to compile.)
    """
    together = "\0".join(texts)  # NUL is in no secret
    hidden = {pair for pair in _hidden(tool) if pair[0] in together}
    ordered = sorted(hidden, key=lambda pair: -len(pair[0]))

    def mask(text: str) -> str:
        for secret, name in ordered:
            text = text.replace(secret, f"[secret:{name}]")
        return text

    return mask


def _hidden(tool: Resolved) -> Iterator[tuple[str, str]]:
    """Each secret as it may come back: itself, as part of a URL, and in base64."""
    for name, values in tool.secrets.items():
        for value in values:
            forms = (
                value,
                quote(value, safe=""),
                json.dumps(value)[1:-1],
                base64.b64encode(value.encode()).decode().rstrip("="),
            )
            yield from ((form, name) for form in forms if len(form) >= _SHORTEST)


def _redacted(rules: RedactionRules | None, value: dict[str, Any]) -> dict[str, Any]:
    if rules is None:
        return value
    redactor = redactor_of(rules)
    if not redactor.keeps_content:
        return _mapped(value, lambda text: text and replacement(CONTENT), names=False)
    text = json.dumps(value, ensure_ascii=False)
    told = redactor.json(text, Counter())
    return value if told is text else cast("dict[str, Any]", json.loads(told))


def _mapped(value: Any, change: Callable[[str], str], *, names: bool = True) -> Any:
    """The value with every string changed, members' names included unless told otherwise."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        items = cast("Mapping[str, Any]", value).items()
        return {
            (change(name) if names else name): _mapped(each, change, names=names)
            for name, each in items
        }
    if isinstance(value, list | tuple):
        return [_mapped(each, change, names=names) for each in cast("list[Any]", value)]
    return value
