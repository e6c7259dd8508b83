"""Where notifications go: one module a kind. None of them needs a database or the server."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

from nilometer.notifications.notification import Notification


class ChannelKind(StrEnum):
    """The kinds there are."""

    WEBHOOK = "webhook"
    SLACK = "slack"
    SMTP = "smtp"
    SNS = "sns"


class Channel(Protocol):
    """One place to send to. Safe to share between threads; holds no connection."""

    def send(self, notification: Notification) -> None:
        """Send it, once, and return when the receiver has taken it.

        Blocks for at most `nilometer.notifications.channels.limits.ATTEMPT_SECONDS`; never call it
        on an event loop or within a transaction. Whether a receiver has it is not known after a
        failure, so it may get it again; the notification's id tells. Raises TemporaryFailure when
        it may be sent later and PermanentFailure when something has to be changed first, and no
        other error.
        """
        ...
