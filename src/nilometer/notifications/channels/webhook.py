"""A webhook: JSON by POST, signed as Standard Webhooks are."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field

from nilometer import __version__
from nilometer.notifications import signature
from nilometer.notifications.channels.http_post import post
from nilometer.notifications.notification import Notification
from nilometer.notifications.reach import PUBLIC, Reach


@dataclass(frozen=True, slots=True)
class Webhook:
    """Sends `{"type", "timestamp", "data"}`; `webhook-id` is the notification's id. `secrets` are
    those to sign with: two while one is being replaced."""

    url: str = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)
    reach: Reach = PUBLIC

    def send(self, notification: Notification) -> None:
        """Send it; see `nilometer.notifications.channels.Channel`."""
        body = json.dumps(payload(notification), ensure_ascii=False).encode()
        signed = signature.headers(notification.id, int(time.time()), body, self.secrets)
        post(self.url, body, {**HEADERS, **signed}, self.reach)


HEADERS = {
    "Content-Type": "application/json",
    "Accept-Encoding": "identity",
    "User-Agent": f"nilometer/{__version__}",
}


def payload(notification: Notification) -> dict[str, object]:
    """The body that webhooks get."""
    told = notification.to_json()
    return {"type": told.pop("type"), "timestamp": told.pop("timestamp"), "data": told}
