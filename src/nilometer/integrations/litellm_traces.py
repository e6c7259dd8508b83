"""The way of LiteLLM's payloads, from its callback to a server or a folder: the client library's
queue, spool and retries (`sdk.delivery`)."""

from __future__ import annotations

import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nilometer.errors import ConfigurationError
from nilometer.integrations.litellm_late import LateDelivery
from nilometer.integrations.litellm_payload import (
    PAYLOADS,
    Assembly,
    Noted,
    Payload,
    call_of,
    payload_in,
)
from nilometer.integrations.litellm_stores import PayloadFiles, PayloadServer
from nilometer.sdk.config import ClientConfig
from nilometer.sdk.delivery import ending
from nilometer.sdk.delivery.delivery import Delivery, Destination, Limits
from nilometer.sdk.delivery.ledger import Stats
from nilometer.sdk.manager import default_spool_dir, limits
from nilometer.sdk.sinks.opening import identity

_LOG = logging.getLogger(__name__)

REMEMBERED = 10_000
"""Calls of which a second account is known to be one."""
_MOST_WAITING = 2_000
_FLUSH_SECONDS = 0.2
_EXIT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class TraceStats:
    """What became of LiteLLM's calls. `repeated` are second accounts of a call, which some versions
    give; `without_payload` are calls that LiteLLM tells nothing of, and `faults` those that could
    not be looked at. `late` came after the end, and `lost` are those of them that could neither be
    delivered nor left on disk. `delivered` counts all others, by store."""

    repeated: int
    without_payload: int
    faults: int
    late: int
    lost: int
    delivered: Stats


@dataclass(frozen=True, slots=True)
class Places:
    """A server, a folder, or both: where payloads go. `config` has the key, and how much and how
    often."""

    url: str | None
    folder: Path | None
    config: ClientConfig

    @classmethod
    def named(
        cls,
        url: str | None,
        api_key: str | None,
        folder: str | Path | None,
        variables: Mapping[str, str] = os.environ,
    ) -> Places:
        """Those that are given; where none is, those of the environment: `NILOMETER_URL`, else a
        server among `NILOMETER_SINK`, and `LITELLM_LOG_DIR`. Raises ConfigurationError."""
        if url is None and folder is None:
            url = variables.get("NILOMETER_URL", "").strip() or _server(variables)
            folder = variables.get("LITELLM_LOG_DIR", "").strip() or None
        names = [url] if url else []
        names += [f"jsonl://{Path(folder).absolute()}"] if folder else []
        given = {} if api_key is None else {"api_key": api_key}
        if not names:
            raise ConfigurationError(
                "nothing says where LiteLLM's calls go: set NILOMETER_URL and NILOMETER_API_KEY, "
                "or LITELLM_LOG_DIR",
                attr="NILOMETER_URL",
            )
        config = ClientConfig.from_env(variables, sink=names, hard_stop=False, **given)
        if url and not config.api_key:
            raise ConfigurationError("NILOMETER_URL needs NILOMETER_API_KEY", attr="api_key")
        return cls(url, Path(folder).absolute() if folder else None, config)

    def destinations(self) -> list[Destination]:
        """The stores, each with its spool."""
        found: list[Destination] = []
        if self.url:
            server = PayloadServer(self.url, self.config.api_key or "")
            found.append(Destination(server, self._spool(self.url), PAYLOADS))
        if self.folder:
            files = PayloadFiles(self.folder)
            found.append(Destination(files, self._spool(files.name), PAYLOADS))
        return found

    def limits(self) -> Limits:
        """Payloads are a hundred times as large as metrics, and wait for nothing."""
        known = limits(self.config)
        return replace(
            known,
            queue_size=min(known.queue_size, _MOST_WAITING),
            flush_interval=min(known.flush_interval, _FLUSH_SECONDS),
        )

    def _spool(self, name: str) -> Path | None:
        if not self.config.spool:
            return None
        folder = self.config.spool_dir or default_spool_dir()
        return Path(folder) / identity(f"litellm:{name}", self.config.api_key)


class Traces:
    """Takes payloads of calls as LiteLLM gives them, in any thread, each once. It never raises and
    never waits; what it needs it opens with the first."""

    def __init__(
        self, url: str | None = None, api_key: str | None = None, folder: str | Path | None = None
    ) -> None:
        self._named = (url, api_key, folder)
        self._lock = threading.RLock()
        self._seen: OrderedDict[Hashable, None] = OrderedDict()
        self._delivery: Delivery | None = None
        self._late: LateDelivery | None = None
        self._is_open = False
        self._repeated = self._without_payload = self._faults = 0

    def take(self, kwargs: Any) -> None:
        """The payload of a call, out of what LiteLLM calls a callback with."""
        try:
            self._take(kwargs)
        except Exception as error:  # noqa: BLE001  (it never harms its host)
            self._faults += 1
            _LOG.debug("a call of LiteLLM could not be taken", exc_info=error)

    def stats(self) -> TraceStats:
        """The counts of this moment."""
        late = self._late
        return TraceStats(
            repeated=self._repeated,
            without_payload=self._without_payload,
            faults=self._faults,
            late=0 if late is None else late.delivered,
            lost=0 if late is None else late.dropped,
            delivered=Stats(0, {}) if self._delivery is None else self._delivery.stats(),
        )

    def flush(self, timeout: float = _EXIT_SECONDS) -> bool:
        """Deliver what there is, within so many seconds: True when nothing is left behind."""
        delivery = self._opened()
        return True if delivery is None else delivery.flush(timeout)

    def close(self, timeout: float = _EXIT_SECONDS) -> bool:
        """Deliver, and end; what is left is on disk for the next process. At the end of a process
        that is done anyhow."""
        if self._delivery is None:
            return True
        ending.unwatch(self._delivery)
        return self._delivery.close(timeout)

    def _take(self, kwargs: Any) -> None:
        told = payload_in(kwargs)
        if told is None:
            self._without_payload += 1
            return
        delivery = self._opened()
        if delivery is None:
            return
        if not self._is_first(call_of(told)):
            self._repeated += 1
        elif delivery.closed:
            self._lately().take(Payload.of(told))
        else:
            delivery.submit(Noted(told))

    def _is_first(self, call: Hashable) -> bool:
        with self._lock:
            if call in self._seen:
                return False
            self._seen[call] = None
            if len(self._seen) > REMEMBERED:
                self._seen.popitem(last=False)
            return True

    def _lately(self) -> LateDelivery:
        with self._lock:
            if self._late is None:
                places = Places.named(*self._named)
                self._late = LateDelivery(places.destinations(), places.config.spool_bytes)
            return self._late

    def _opened(self) -> Delivery | None:
        with self._lock:
            if not self._is_open:
                self._is_open = True
                self._delivery = self._open()
            return self._delivery

    def _open(self) -> Delivery | None:
        try:
            places = Places.named(*self._named)
        except ConfigurationError as error:
            _LOG.error("LiteLLM's calls are not recorded: %s", error)
            return None
        if not places.config.track_usage:
            return None
        delivery = Delivery(places.destinations, Assembly(), places.limits())
        ending.watch(delivery, sigterm=places.config.handle_sigterm)
        return delivery


def _server(variables: Mapping[str, str]) -> str | None:
    """The first server among the client library's stores."""
    names = (each.strip() for each in variables.get("NILOMETER_SINK", "").split(","))
    return next((each for each in names if each.startswith(("http://", "https://"))), None)
