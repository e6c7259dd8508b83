"""Sends what waits in the outbox, in threads of its own."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime

from nilometer import failpoints
from nilometer.domain import clock
from nilometer.errors import NilometerError
from nilometer.notifications import configuration
from nilometer.notifications.channels import Channel
from nilometer.notifications.claims import Claim, Claims
from nilometer.notifications.configuration import Egress
from nilometer.notifications.failures import DeliveryFailure, PermanentFailure, TemporaryFailure
from nilometer.notifications.notification import Notification
from nilometer.notifications.schedule import next_attempt
from nilometer.observability import metrics
from nilometer.pipeline.batch import located

PLACES = 8
PRUNE_SECONDS = 3600.0

_log = logging.getLogger(__name__)


class Deliverer:
    """Sends until `stop`. Any number may work beside each other, in any number of processes.

    What it promises: a notification whose transaction was committed is sent at least once, or is
    `failed`, where it can be seen and replayed. It may be sent more than once, under the same id.
    """

    def __init__(
        self,
        claims: Claims,
        egress: Egress,
        *,
        interval: float = 1,
        places: int = PLACES,
        now: Callable[[], datetime] = clock.now,
    ) -> None:
        """`interval` is how often it looks for what others have enqueued."""
        self._claims = claims
        self._egress = egress
        self._interval = interval
        self._places = places
        self._now = now
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._pool = ThreadPoolExecutor(places, thread_name_prefix="notify")
        self._under_way: set[Future[None]] = set()
        self._pruned_at = -PRUNE_SECONDS
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, in threads."""
        self._thread = threading.Thread(target=self._run, name="notifications", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after the attempts under way, and wait for them: seconds at most. What waits is sent
        after the next start."""
        self._stopping.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
        self._pool.shutdown()

    def wake(self) -> None:
        """Look now: something was enqueued, and committed. Returns at once."""
        self._wake.set()

    def run_once(self) -> int:
        """Attempt whatever is due, in this thread; how many attempts that were. Raises
        DatabaseUnavailable."""
        claimed = self._claims.claim(self._places, self._now())
        for claim in claimed:
            self._attempt(claim)
        return len(claimed)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._hand_out()
                self._prune()
            except NilometerError as error:
                _log.warning("notifications wait: %s", error.detail)
            except Exception as error:  # noqa: BLE001  (the thread must not end unseen)
                _log.error("notifications wait: %s", located(error))
            self._wake.wait(self._interval)
            self._wake.clear()

    def _hand_out(self) -> None:
        self._under_way = {each for each in self._under_way if not each.done()}
        free = self._places - len(self._under_way)
        if free and self._claims.due(self._now()):
            for claim in self._claims.claim(free, self._now()):
                attempt = self._pool.submit(self._attempt, claim)
                self._under_way.add(attempt)
                attempt.add_done_callback(lambda _: self._wake.set())

    def _prune(self) -> None:
        if time.monotonic() - self._pruned_at >= PRUNE_SECONDS:
            self._claims.prune(self._now())
            self._pruned_at = time.monotonic()

    def _attempt(self, claim: Claim) -> None:
        """Send, and keep what came of it. What cannot be kept is sent again when the lease ends."""
        kind = str(claim.kind or "none")
        try:
            failure = self._sent(claim)
            failpoints.hit("notification_sent")
            outcome = self._settle(claim, failure)
        except NilometerError as error:
            _log.warning("delivery %s is sent again: %s", claim.delivery_id, error.detail)
            outcome = "unknown"
        except Exception as error:  # noqa: BLE001  (of a thread of a pool nobody would hear)
            _log.error("delivery %s is sent again: %s", claim.delivery_id, located(error))
            outcome = "unknown"
        metrics.NOTIFICATIONS.labels(kind, outcome).inc()

    def _sent(self, claim: Claim) -> DeliveryFailure | None:
        """Send; why it failed, if it did."""
        try:
            self._channel(claim).send(Notification.from_json(claim.notification))
        except DeliveryFailure as failure:
            return failure
        except Exception as error:  # noqa: BLE001  (a defect of a channel must not stop the others)
            _log.error("a notification failed otherwise than it may: %s", located(error))
            return TemporaryFailure(f"It failed ({type(error).__name__}).", code="defect")
        return None

    def _channel(self, claim: Claim) -> Channel:
        if claim.kind is None or claim.kept is None:
            raise PermanentFailure("There is no such channel; it was deleted.", code="no_channel")
        egress = self._egress.of_project(claim.project_id)
        return configuration.channel(claim.kind, claim.kept, egress, self._now())

    def _settle(self, claim: Claim, failure: DeliveryFailure | None) -> str:
        """Keep the outcome, and name it."""
        now = self._now()
        if failure is None:
            return "delivered" if self._claims.delivered(claim, now) else "lost_lease"
        until = None
        if isinstance(failure, TemporaryFailure):
            chance = random.random()  # noqa: S311
            until = next_attempt(claim.attempts, now, claim.give_up_at, chance, failure.retry_after)
        if until is not None:
            return (
                "postponed" if self._claims.postponed(claim, failure, until, now) else "lost_lease"
            )
        kept = self._claims.failed(claim, failure, now)
        _log.warning(
            "delivery %s of project %d is given up after %d attempts: %s",
            *(claim.delivery_id, claim.project_id, claim.attempts, failure.code),
        )
        return "failed" if kept else "lost_lease"
