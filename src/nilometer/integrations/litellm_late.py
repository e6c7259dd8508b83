"""Payloads that come when delivery has ended: at the end of a process LiteLLM calls what it has not
yet called its callbacks for, and does so after everything that was imported later has ended."""

from __future__ import annotations

import logging
import threading
from contextlib import suppress

from nilometer.integrations.litellm_payload import PAYLOADS, Payload
from nilometer.sdk.delivery.delivery import Destination
from nilometer.sdk.delivery.spool import Spool, SpoolFull

_LOG = logging.getLogger(__name__)


class LateDelivery:
    """Delivers one payload at a time, in the thread that has it: no thread can be started any more.
    A store that fails is asked once; from then on its payloads are left on disk, for the next
    process."""

    def __init__(self, destinations: list[Destination], spool_bytes: int) -> None:
        self._destinations = destinations
        self._spool_bytes = spool_bytes
        self._lock = threading.RLock()
        self._down: set[str] = set()
        self.delivered = self.dropped = 0

    def take(self, payload: Payload) -> None:
        """Deliver a payload, or leave it on disk; it is dropped, and counted, where neither can be
        done."""
        with self._lock:
            for destination in self._destinations:
                if self._stored(destination, payload) or self._spooled(destination, payload):
                    self.delivered += 1
                else:
                    self.dropped += 1

    def _stored(self, destination: Destination, payload: Payload) -> bool:
        sink = destination.sink
        if sink.name in self._down:
            return False
        try:
            failed = sink.store([payload])
        except Exception as error:  # noqa: BLE001  (whatever a store raises is an outage of it)
            _LOG.debug("%s takes nothing at the end: %s", sink.name, type(error).__name__)
            self._down.add(sink.name)
            return False
        return not failed

    def _spooled(self, destination: Destination, payload: Payload) -> bool:
        if destination.spool is None:
            return False
        spool = Spool(destination.spool, self._spool_bytes, PAYLOADS)
        with suppress(OSError, SpoolFull):
            spool.write([payload])
            spool.close()
            return True
        return False
