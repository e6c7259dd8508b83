"""What a source that does not speak `$ai_*` becomes: an event in those terms."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from hashlib import sha1
from typing import Any

_EVENTS = uuid.UUID("b7a5f3c1-9d52-5e0c-8f64-6a1c3e7d2b90")
# The contract's own (capture.md, section 9), so that people are the same as at PostHog.
_PEOPLE = uuid.UUID("392e81d5-3d13-4a6f-b541-bdbf6c865e56")


# Not frozen: one is made for each span, and that would triple the time it takes.
@dataclass(slots=True, kw_only=True)
class Converted:
    """An event in canonical form.

    `timestamp` is microseconds since the epoch, None when the source tells none (then it is when
    the record was accepted). `is_ai` is false for a span that is only part of an AI trace.
    `convention` names who described it. `counts_usage` is true for a call that consumed what it
    reports: not for a step that sums up others, nor for an answer from a cache. The tokens are
    then in `properties` as reported, in the way of counting that `usage_convention` names, and as
    the source's own object in `$ai_usage`.
    """

    event: str
    uuid: str
    distinct_id: str
    timestamp: int | None
    properties: dict[str, Any]
    is_ai: bool
    convention: str
    counts_usage: bool
    usage_convention: str


def event_uuid(name: str) -> str:
    """The uuid of what `name` identifies: the same for each resend, in every project."""
    return _uuid5(_EVENTS.bytes, name)


def nobody(name: str) -> str:
    """The distinct id of an event that names no person: `session:<id>` or `trace:<hex>`."""
    return _uuid5(_PEOPLE.bytes, name)


def _uuid5(namespace: bytes, name: str) -> str:
    """The text of `uuid.uuid5`, in a third of its time."""
    digest = sha1(namespace + name.encode(), usedforsecurity=False).hexdigest()
    variant = "89ab"[int(digest[16], 16) & 3]
    return f"{digest[:8]}-{digest[8:12]}-5{digest[13:16]}-{variant}{digest[17:20]}-{digest[20:32]}"
