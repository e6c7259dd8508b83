"""An error's text without what varies, so that one failure is one group.

The placeholders and their order are the capture contract's (section 8). Three differences make the
result stable (normalising it again changes nothing): whitespace is collapsed first, not last; the
gap between `user_id` and its value is punctuation or a space; and the length is bounded.
"""

from __future__ import annotations

import re

MAX_CHARS = 10_000
UNKNOWN = "Unknown error"

_ID = r"[a-zA-Z0-9_-]+"
_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_ANY_CASE = re.ASCII | re.IGNORECASE

# In order, the most specific first. Each is linear in the text: no quantified group can match a
# text in two ways, and a failed attempt ends where the next one may start.
_RULES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(rf"req_[a-z0-9]+|{_UUID}", _ANY_CASE), "<ID>"),
    (
        re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]+Z?"),
        "<TIMESTAMP>",
    ),
    (re.compile(r"projects/[0-9a-z-]+(?:/[a-z]+/[0-9a-z-]+)+", _ANY_CASE), "projects/<PATH>"),
    (re.compile(rf'"responseId":\s*"{_ID}"'), '"responseId":"<RESPONSE_ID>"'),
    (re.compile(rf'"id":\s*"{_ID}"'), '"id": "<ID>"'),
    (re.compile(rf"tool_call_id=['\"]{_ID}['\"]"), "tool_call_id='<TOOL_CALL_ID>'"),
    (re.compile(r"toolu_[a-zA-Z0-9]+"), "<TOOL_ID>"),
    (re.compile(r"function call call_[a-zA-Z0-9]+"), "function call call_<CALL_ID>"),
    (re.compile(r"(user_id[^a-zA-Z0-9<>]{0,4})user_[a-zA-Z0-9]+"), r"\1user_<USER_ID>"),
    (re.compile(r"0x[0-9a-fA-F]+"), "<OBJECT_ID>"),
    (re.compile(rf"id=['\"]{_ID}['\"]", _ANY_CASE), "id='<ID>'"),
    (re.compile(r'"tokenCount":\s*[0-9]+'), '"tokenCount":<TOKEN_COUNT>'),
    (re.compile(r"[0-9]{9,}"), "<ID>"),
    (re.compile(r"[0-9]+"), "<N>"),
)


def normalise_error(text: str) -> str:
    """The text with ids, times, paths and numbers replaced by placeholders.

    Reads the first 10,000 characters and returns at most as many; empty for empty or blank text.
    """
    normalised = " ".join(text[:MAX_CHARS].split())
    for pattern, placeholder in _RULES:
        normalised = pattern.sub(placeholder, normalised)
    return normalised[:MAX_CHARS].rstrip()
