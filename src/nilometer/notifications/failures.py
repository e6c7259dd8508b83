"""Why a notification was not sent, and whether trying again can help.

The sentences say what the receiver did, in our words: never an address, a secret, or what it wrote.
"""

from __future__ import annotations

from nilometer.errors import NilometerError


class DeliveryFailure(NilometerError):
    """A notification was not sent."""

    code = "delivery_failed"


class TemporaryFailure(DeliveryFailure):
    """It may be sent later. `retry_after` is in how many seconds the receiver wants to be asked
    again, None where it did not say."""

    code = "delivery_failed_for_now"

    def __init__(
        self, detail: str, *, code: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(detail, code=code)
        self.retry_after = retry_after


class PermanentFailure(DeliveryFailure):
    """The same again would fail again: somebody has to change something first."""

    code = "delivery_refused"
