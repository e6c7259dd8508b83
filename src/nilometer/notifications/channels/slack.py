"""Slack's incoming webhooks, and what speaks their format.

https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks: blocks for who sees them,
`text` for notifications and for receivers that know no blocks. Slack answers `ok`, or one word.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field

from nilometer.notifications.channels.http_post import post
from nilometer.notifications.channels.webhook import HEADERS
from nilometer.notifications.notification import Notification, Severity
from nilometer.notifications.reach import PUBLIC, Reach

# Slack's limits: a header, a section's text, fields of a section, a field.
_HEADER, _SECTION, _FIELDS, _FIELD = 150, 3000, 10, 2000
_SIGNS = {Severity.INFO: "ℹ️", Severity.WARNING: "⚠️", Severity.CRITICAL: "🚨"}
_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_SPECIAL = re.compile("[&<>]")
_MENTION = re.compile(r"(?<!\w)@(?=\w)")

Block = dict[str, object]


@dataclass(frozen=True, slots=True)
class Slack:
    """Sends to an incoming webhook; its URL is the password."""

    url: str = field(repr=False)
    reach: Reach = PUBLIC

    def send(self, notification: Notification) -> None:
        """Send it; see `nilometer.notifications.channels.Channel`. A message that Slack took and
        whose answer was lost is sent again, and seen twice: its format has no id."""
        body = json.dumps(message(notification), ensure_ascii=False).encode()
        post(self.url, body, HEADERS, self.reach)


def message(notification: Notification) -> dict[str, object]:
    """The body of a request."""
    title = f"{_SIGNS[notification.severity]} {notification.title}"
    return {"text": _cut(_escaped(title), _SECTION), "blocks": _blocks(title, notification)}


def _blocks(title: str, notification: Notification) -> list[Block]:
    blocks: list[Block] = [
        {"type": "header", "text": {"type": "plain_text", "text": _cut(title, _HEADER)}}
    ]
    if notification.text:
        blocks.append({"type": "section", "text": _markdown(_escaped(notification.text), _SECTION)})
    facts = [
        _markdown(f"*{_escaped(name)}*\n{_escaped(value)}", _FIELD)
        for name, value in notification.facts.items()
    ]
    starts = range(0, len(facts), _FIELDS)
    for at in starts:
        section: Block = {"type": "section", "fields": facts[at : at + _FIELDS]}
        blocks.append(section)
    blocks.append({"type": "context", "elements": [_markdown(_context(notification), _SECTION)]})
    return blocks


def _context(notification: Notification) -> str:
    told = f"{notification.occurred_at:%Y-%m-%d %H:%M} UTC · {_escaped(notification.kind)}"
    link = notification.link
    return f"{told} · <{_special(link)}|Open in Nilometer>" if link else told


def _markdown(text: str, limit: int) -> Block:
    # Without `verbatim` Slack makes links of what looks like one, and of names.
    return {"type": "mrkdwn", "text": _cut(text, limit), "verbatim": True}


def _escaped(text: str) -> str:
    """So that no name can mention a channel or be a link; what only takes Slack's format mentions
    whom a plain `@` names, so a space of no width follows it."""
    return _MENTION.sub("@\u200b", _special(text))


def _special(text: str) -> str:
    return _SPECIAL.sub(lambda match: _ESCAPES[match[0]], text)


def _cut(text: str, limit: int) -> str:
    """Cut to a limit, and never within what stands for a special character."""
    if len(text) <= limit:
        return text
    return re.sub(r"&[a-z]{0,3}$", "", text[: limit - 1]) + "…"
