"""The thread that brings one lane's metrics to their store."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

from nilometer.errors import Unavailable
from nilometer.sdk.delivery.breaker import CLOSED, CircuitBreaker
from nilometer.sdk.delivery.lane import Claim, Lane
from nilometer.sdk.delivery.queue import Bell
from nilometer.sdk.delivery.records import Store
from nilometer.sdk.sinks.port import Failed, Record

_LOG = logging.getLogger(__name__)

ADOPT_EVERY = 60.0
"""Seconds between two looks for what dead processes have left."""


class Sender:
    """Sends when a batch is full, when the first metric has waited `interval` seconds, or when
    someone waits for it."""

    def __init__(
        self, sink: Store, lane: Lane, breaker: CircuitBreaker, *, batch_size: int, interval: float
    ) -> None:
        self.sink = sink
        self.lane = lane
        self.breaker = breaker
        self._reads = breaker.alike()
        self._most = max(1, min(batch_size, sink.batch_size))
        self._interval = interval
        self._bell = Bell()
        self._ending = False
        self._hurried = False
        self._since: float | None = None
        self._adopted_at = float("-inf")
        self.thread = threading.Thread(
            target=self._run, name=f"nilometer-sender-{sink.name}", daemon=True
        )

    def wake(self) -> None:
        """There is something to send."""
        self._bell.ring()

    def hurry(self, *, probe: bool) -> None:
        """Send what there is, now. With `probe` a store that is down is asked at once too, and what
        could not be read is looked at."""
        self._hurried = True
        if probe:
            self.breaker.hurry()
            self._reads.hurry()
        self._bell.ring()

    def stop(self) -> None:
        """End the thread after what it is sending."""
        self._ending = True
        self._bell.ring()

    def _run(self) -> None:
        while not self._ending:
            self._adopt()
            pause = self._pause()
            if pause == 0.0:
                self._send()
            else:
                self._bell.wait(ADOPT_EVERY if pause is None else pause)

    def _adopt(self) -> None:
        now = time.monotonic()
        if now - self._adopted_at >= ADOPT_EVERY:
            self._adopted_at = now
            self.lane.adopt()

    def _pause(self) -> float | None:
        """How long to wait before sending: 0 for not at all, None for until there is something."""
        rest = self._until_next_look()
        count = self.lane.count()
        if not count:
            self._since, self._hurried = None, False
            return rest
        now = time.monotonic()
        if self._since is None:
            self._since = now
        if count < self._most and not self._hurried:
            rest = self._since + self._interval - now
            if rest > 0:
                return rest
        return self.breaker.delay()

    def _until_next_look(self) -> float | None:
        """How long to wait for the next look at what could not be read; None where all could.
        When it is time, that may be claimed again, and has waited long enough."""
        if not self.lane.unread:
            return None
        if rest := self._reads.delay():
            return rest
        self.lane.look_again()
        self._hurried = True
        return None

    def _send(self) -> None:
        if not self.breaker.allow():
            return
        claim = self._claim()
        if claim is None:
            self.breaker.passed_over()
            return
        self.lane.settle(claim, self._sent(claim))
        self._since = time.monotonic()

    def _claim(self) -> Claim | None:
        """A claim. What of it cannot be read says nothing of the store, and is looked at later."""
        unread = self.lane.unread
        claim = self.lane.claim(self._most)
        if not self.lane.unread:
            self._reads.succeeded()
        elif self.lane.unread > unread and not self._reads.delay():
            self._reads.failed()  # once for all that fail in one look
        return claim

    def _sent(self, claim: Claim) -> list[Failed]:
        """Send a claim: what of it failed."""
        if not claim.metrics:
            self.breaker.passed_over()
        failed: list[Failed] = []
        for start in range(0, len(claim.metrics), self._most):
            chunk = claim.metrics[start : start + self._most]
            if not self._try(chunk, failed):
                rest = claim.metrics[start + self._most :]
                failed += [Failed(metric, "not_tried") for metric in rest]
                break
        return failed

    def _try(self, metrics: Sequence[Record], failed: list[Failed]) -> bool:
        """Send one chunk, adding what failed of it; False when the store is not to be asked more
        now."""
        try:
            found = list(self.sink.store(metrics))
        except Exception as error:  # noqa: BLE001  (whatever a store raises is an outage of it)
            self._tell(error)
            failed += [Failed(metric, "outage") for metric in metrics]
            self.breaker.failed(error.retry_after if isinstance(error, Unavailable) else 0.0)
            return False
        failed += found
        pauses = [each.retry_after for each in found if not each.permanent]
        if pauses:
            self.breaker.failed(max(pauses))
            return False
        if self.breaker.state != CLOSED:
            _LOG.info("%s takes metrics again", self.sink.name)
        self.breaker.succeeded()
        return True

    def _tell(self, error: Exception) -> None:
        """Once an outage, and never what was in the metrics."""
        if self.breaker.failures == 0:
            _LOG.warning("%s takes no metrics now: %s", self.sink.name, type(error).__name__)
            _LOG.debug("the outage of %s", self.sink.name, exc_info=error)
