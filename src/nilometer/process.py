"""The parts of one process, for its role, built in the order in which data flows."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Collection
from contextlib import ExitStack, closing
from functools import partial

from fastapi import FastAPI

from nilometer import readiness
from nilometer.access.accounts import Accounts, IssuedKeys
from nilometer.access.keyring import Keyring
from nilometer.alerts.failures import Failures
from nilometer.alerts.rules import AlertRules
from nilometer.api import errors as api_errors
from nilometer.api.health import Check, Health, create_router
from nilometer.blobs.configured import configured
from nilometer.budgets.arrivals import Arrivals
from nilometer.budgets.store import Budgets
from nilometer.capture.app import CaptureApp
from nilometer.database.fence import EVERY_ROW
from nilometer.domain import clock
from nilometer.errors import NilometerError
from nilometer.foundation import lay
from nilometer.front import Asgi, front
from nilometer.log.port import LogState
from nilometer.migrate_data.claim import require_whole_in
from nilometer.notifications.channel_store import Channels
from nilometer.notifications.claims import Claims
from nilometer.notifications.configuration import Egress
from nilometer.notifications.deliveries import Deliveries
from nilometer.observability import metrics
from nilometer.pipeline.dead_letters import DeadLetters
from nilometer.pipeline.rewriting.jobs import Rewrites
from nilometer.query.spend import CallSpend
from nilometer.settings import CAPTURES, READS, WORKS, Settings
from nilometer.worker import Worker
from nilometer.workflows import gauges

logger = logging.getLogger(__name__)


def _nobody() -> None:
    """What is asked for is found by a worker of another process, within seconds."""


def _nobody_of(_: Collection[object]) -> None:
    """As `_nobody`, within a minute."""


def _note_lag(state: LogState, prefix: str) -> None:
    """How far the groups of a log are behind."""
    now = clock.to_micros(clock.now())
    for group, lag in state.groups.items():
        metrics.LOG_LAG.labels(prefix + group).set(lag.records)
        seconds = lag.seconds(now)
        waiting = float("nan") if seconds is None else seconds
        metrics.LOG_LAG_SECONDS.labels(prefix + group).set(waiting)


class Process:
    """Every part of this process. Capture is ready when the constructor returns. The store opens
    beside it: that takes longer, and no acknowledgement waits for it. A role that only captures has
    no connection to the store."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stopping = threading.Event()
        with ExitStack() as parts:
            self._foundation = foundation = lay(settings, parts)
            self.log, self.store = foundation.log, foundation.store
            self.accounts = Accounts(foundation.database)
            self.keyring = parts.enter_context(
                closing(
                    Keyring(
                        foundation.database,
                        default_retention_days=settings.retention_days,
                        stale_seconds=settings.key_grace,
                    )
                )
            )
            self.dead_letters = DeadLetters(foundation.database)
            self.rewrites = Rewrites(foundation.database)
            self.arrivals = Arrivals()
            self.spend = CallSpend(self.store) if self.store is not None else None
            self.failures = Failures(foundation.database)
            parts.callback(self.failures.stop)
            self.failures.start()
            self.blobs = parts.enter_context(
                closing(configured(settings, failed=self.failures.note))
            )
            self.capture = self._capture() if settings.role in CAPTURES else None
            self.worker = self._worker(parts) if settings.role in WORKS else None
            if self.store is not None:
                opener = threading.Thread(target=self._open_store, name="open-store", daemon=True)
                parts.callback(opener.join)
                parts.callback(self._stopping.set)
                opener.start()
            self._parts = parts.pop_all()

    @property
    def place(self) -> str:
        """Where the data is, for who started the process."""
        return self._foundation.place

    def bootstrap(self) -> IssuedKeys | None:
        """The first start's organization, project and keys; None when there are some. Raises
        ConfigurationError for a database that a move has claimed since this process looked."""
        key = self._settings.bootstrap_personal_key
        token = key.get_secret_value() if key else None
        return self.accounts.bootstrap(token, require_whole_in)

    def close(self) -> None:
        """Finish the batch in hand, then close every part, the last built first."""
        self._parts.close()

    def front(self, capture_port: int | None = None) -> Asgi:
        """The application of every port; see `nilometer.front`."""
        api = self._api()
        api.include_router(create_router(Health(self._checks(), self._refresh_gauges)))
        if self.capture is None:
            return api
        return front(self.capture, self.capture.paths, api, capture_port=capture_port)

    def _capture(self) -> CaptureApp:
        return CaptureApp(
            log=self.log, blobs=self.blobs, keyring=self.keyring, settings=self._settings
        )

    def _worker(self, parts: ExitStack) -> Worker:
        assert self.store is not None, "a worker has a store"
        assert self.spend is not None, "who has a store can ask it"
        return Worker(
            self._settings,
            self._foundation,
            self.store,
            blobs=self.blobs,
            dead_letters=self.dead_letters,
            rewrites=self.rewrites,
            arrivals=self.arrivals,
            spend=self.spend,
            parts=parts,
        )

    def _api(self) -> FastAPI:
        """The API; of a process without that role, nothing but errors in its shape."""
        if self._settings.role not in READS or self.store is None or self.spend is None:
            bare = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
            api_errors.install(bare)
            return bare
        # Its routes take a second to load: capture processes and workers have no use for them.
        from nilometer.api.app import Services, create_app

        worker = self.worker
        api = create_app(
            Services(
                database=self._foundation.database,
                accounts=self.accounts,
                wake_deletions=worker.deletions.wake if worker else _nobody,
                keyring=self.keyring,
                store=self.store,
                blobs=self.blobs,
                dead_letters=self.dead_letters,
                rewrites=self.rewrites,
                wake_rewrites=worker.rewriter.wake if worker else _nobody,
                notification_channels=Channels(
                    self._foundation.database, Egress.of(self._settings)
                ),
                deliveries=Deliveries(self._foundation.database),
                wake_notifications=worker.deliverer.wake if worker else _nobody,
                budgets=Budgets(self._foundation.database),
                alert_rules=AlertRules(self._foundation.database),
                wake_budgets=worker.budget_watch.stored if worker else _nobody_of,
                wake_incidents=worker.incidents.wake if worker else _nobody_of,
                arrivals=self.arrivals,
                spend=self.spend,
                log=self.log,
                exceptions_log=self._foundation.exceptions,
                pipeline=worker.pipeline if worker else None,
                settings=self._settings,
            )
        )
        self._parts.callback(api.state.context.close)
        return api

    def _open_store(self) -> None:
        """Open the store, however long it takes; then let the worker work."""
        assert self.store is not None, "there is one to open"
        attempt = 0
        while not self._stopping.is_set():
            try:
                self.store.open()
            except NilometerError as error:
                attempt += 1
                logger.warning("the store cannot be opened, trying again: %s", error.detail)
                self._stopping.wait(min(30, 2**attempt) * random.uniform(0.5, 1))  # noqa: S311
            else:
                if self.worker is not None:
                    self.worker.start()
                return

    def _checks(self) -> dict[str, dict[str, Check]]:
        """What each role of this process needs, by name."""
        store = partial(readiness.store_answers, self.store)
        checks: dict[str, dict[str, Check]] = {}
        if self.capture is not None:
            log = partial(readiness.log_accepts, self.log)
            checks["capture"] = {"log": log, "blobs": self.blobs.probe}
        if self.worker is not None:
            runs = partial(readiness.pipeline_runs, self.worker.pipeline)
            checks["worker"] = {"store": store, "pipeline": runs}
        if self._settings.role in READS:
            database = partial(readiness.database_answers, self.dead_letters)
            checks["api"] = {"store": store, "database": database}
        return checks

    def _refresh_gauges(self) -> None:
        state = self.log.state()
        metrics.LOG_RECORDS.set(state.depth)
        metrics.LOG_BYTES.set(float("nan") if state.size is None else state.size)
        _note_lag(state, "")
        if self._foundation.exceptions is not None:
            _note_lag(self._foundation.exceptions.state(), "exceptions.")
        try:
            with self._foundation.database.read(EVERY_ROW) as session:
                gauges.refresh(session, clock.now())
            counts = self.dead_letters.open_counts()
            waiting, oldest = Claims(self._foundation.database).waiting()
        except NilometerError as error:
            logger.warning("what the database has cannot be counted: %s", error.detail)
            return
        metrics.NOTIFICATIONS_WAITING.set(waiting)
        age = (clock.now() - oldest).total_seconds() if oldest else 0
        metrics.NOTIFICATIONS_WAITING_SECONDS.set(max(0, age))
        metrics.DEAD_LETTERS_OPEN.clear()
        for reason, count in counts.items():
            metrics.DEAD_LETTERS_OPEN.labels(reason).set(count)
