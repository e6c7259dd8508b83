"""What is told: a notification, the same for every channel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, cast
from uuid import uuid4

from nilometer.domain import clock

MAX_TITLE = 200
MAX_TEXT = 4000
MAX_FACTS = 40
MAX_FACT_NAME = 100
MAX_FACT = 1000
MAX_LINK = 2000
"""Each in characters; what is longer is cut, and ends with an ellipsis."""


class Severity(StrEnum):
    """How much it matters."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """Something to be told, once, to any number of channels.

    `id` stays the same however often it is sent: receivers tell a repetition by it. `kind` is a
    stable code (`budget.threshold`), `title` one line, `text` plain text of any number of lines.
    `facts` are names and values to show and to act on, all text: money as exact decimals.
    `project_id` is None for what is of no project. `occurred_at` is aware; `link` leads to more.
    """

    id: str
    kind: str
    project_id: int | None
    title: str
    text: str
    severity: Severity
    occurred_at: datetime
    facts: Mapping[str, str] = field(default_factory=dict[str, str])
    link: str | None = None

    @classmethod
    def new(
        cls,
        *,
        kind: str,
        project_id: int | None,
        title: str,
        text: str,
        severity: Severity = Severity.INFO,
        facts: Mapping[str, object] | None = None,
        occurred_at: datetime | None = None,
        link: str | None = None,
        id: str | None = None,  # noqa: A002  (the field's own name)
    ) -> Notification:
        """One made of texts of any length and origin: they are cut to their limits, and control
        characters, which drive terminals and mail headers, are shown as spaces.

        `id` is random unless given; `occurred_at` is now. Raises ValueError for a moment without a
        time zone.
        """
        when = clock.now() if occurred_at is None else occurred_at
        if when.tzinfo is None:
            raise ValueError("a datetime without a time zone is ambiguous; give one with a zone")
        told = list((facts or {}).items())[:MAX_FACTS]
        return cls(
            id=id or str(uuid4()),
            kind=kind,
            project_id=project_id,
            title=_line(title, MAX_TITLE),
            text=_lines(text, MAX_TEXT),
            severity=severity,
            occurred_at=when.astimezone(UTC),
            facts={_line(name, MAX_FACT_NAME): _line(str(value), MAX_FACT) for name, value in told},
            link=link if link and len(link) <= MAX_LINK and link.isprintable() else None,
        )

    def to_json(self) -> dict[str, Any]:
        """The notification as a JSON object: what webhooks send and the outbox keeps."""
        return {
            "id": self.id,
            "type": self.kind,
            "timestamp": self.occurred_at.isoformat().replace("+00:00", "Z"),
            "project_id": self.project_id,
            "severity": self.severity.value,
            "title": self.title,
            "text": self.text,
            "facts": dict(self.facts),
            "link": self.link,
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Notification:
        """The notification that `to_json` gave."""
        return cls(
            id=str(stored["id"]),
            kind=str(stored["type"]),
            project_id=cast("int | None", stored["project_id"]),
            title=str(stored["title"]),
            text=str(stored["text"]),
            severity=Severity(stored["severity"]),
            occurred_at=datetime.fromisoformat(stored["timestamp"]),
            facts=dict(stored["facts"]),
            link=cast("str | None", stored["link"]),
        )


def _line(text: str, limit: int) -> str:
    """On one line."""
    return _cut("".join(each if each.isprintable() else " " for each in text), limit)


def _lines(text: str, limit: int) -> str:
    kept = "".join(each if each.isprintable() or each == "\n" else " " for each in text)
    return _cut(kept.strip(), limit)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
