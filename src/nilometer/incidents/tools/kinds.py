"""The kinds of tools, and what those of our own take.

A kind that is not here is refused when a tool is defined, and fails for good when one is executed:
no tool falls through to a success that nobody brought about.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final


class ToolKind(StrEnum):
    """What a tool does: an HTTP request; a signed webhook; a notification through the project's
    channels; and Nilometer's own actions."""

    HTTP = "http"
    WEBHOOK = "webhook"
    NOTIFY = "notify"
    BUDGET_HARD_STOP = "budget_hard_stop"
    BUDGET_CHANGE = "budget_change"
    KEY_REVOKE = "key_revoke"
    DEAD_LETTERS_REPLAY = "dead_letters_replay"
    REPORT_ATTACH = "report_attach"


REMOTE: Final = frozenset({ToolKind.HTTP, ToolKind.WEBHOOK})
"""Kinds that go to an address and so need a definition. A tool of every other kind is there in each
project under the kind's own name."""

_Schema = dict[str, Any]


def _text(longest: int, description: str) -> _Schema:
    return {"type": "string", "minLength": 1, "maxLength": longest, "description": description}


def _takes(required: list[str], **properties: _Schema) -> _Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


_BUDGET = _text(100, "The budget's id, or its name.")
_USD = {
    "type": "string",
    "pattern": r"^[0-9]{1,15}(\.[0-9]{1,18})?$",
    "description": "An exact amount of US dollars.",
}

INPUTS: Final[Mapping[ToolKind, _Schema]] = {
    ToolKind.NOTIFY: _takes(
        ["title"],
        title=_text(1000, "One line."),
        text={"type": "string", "maxLength": 10_000},
        severity={"enum": ["info", "warning", "critical"]},
        facts={"type": "object", "maxProperties": 40, "description": "Names and values to show."},
        channels={
            "type": "array",
            "items": _text(100, "A channel's id, or its name."),
            "minItems": 1,
            "maxItems": 20,
            "description": "By default every channel of the project.",
        },
    ),
    ToolKind.BUDGET_HARD_STOP: _takes(
        ["budget"], budget=_BUDGET, hard_stop={"type": "boolean", "description": "True if absent."}
    ),
    ToolKind.BUDGET_CHANGE: {
        **_takes(
            ["budget"],
            budget=_BUDGET,
            amount_usd=_USD,
            hard_stop={"type": "boolean"},
            thresholds={"type": "array", "items": {"type": "integer"}, "maxItems": 10},
        ),
        "minProperties": 2,
    },
    ToolKind.KEY_REVOKE: _takes(["key_id"], key_id=_text(64, "The key's id.")),
    ToolKind.DEAD_LETTERS_REPLAY: _takes(
        [],
        reason=_text(100, "Only letters of this reason's code."),
        limit={"type": "integer", "minimum": 1, "maximum": 500},
    ),
    ToolKind.REPORT_ATTACH: _takes(
        [],
        days={"type": "integer", "minimum": 1, "maximum": 92},
        group_by={"type": "array", "items": _text(100, "A level."), "minItems": 1, "maxItems": 5},
    ),
}
"""What the kinds of our own take, as JSON Schemas."""


def known(text: str) -> ToolKind | None:
    """The kind of this name, None where this release has none."""
    try:
        return ToolKind(text)
    except ValueError:
        return None


def built_in(name: str) -> ToolKind | None:
    """The kind whose tool is there without a definition, under this name."""
    kind = known(name)
    return None if kind is None or kind in REMOTE else kind
