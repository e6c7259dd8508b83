"""Chooses the profile and wires it. No other module asks which profile it is in."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import resource
import socket
import threading
from collections.abc import Generator
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING

import uvicorn
from starlette.concurrency import run_in_threadpool

from nilometer import failpoints
from nilometer.access.accounts import Accounts, IssuedKeys
from nilometer.access.deletion import DeletionWorker, Tombstones
from nilometer.access.keyring import Keyring
from nilometer.access.price_overrides import CurrentOverrides, PriceOverrides
from nilometer.announcement import announce
from nilometer.api.app import Services, create_app
from nilometer.api.health import Check, Health, create_router
from nilometer.blobs.store import open_store
from nilometer.blobs.sweeper import Sweeper
from nilometer.capture.app import CaptureApp
from nilometer.capture.http_protocol import bounded_protocol
from nilometer.clickhouse.erasure import erase_project
from nilometer.clickhouse.store import Store
from nilometer.data_directory import DataDirectory
from nilometer.database.engine import Database
from nilometer.database.migrate import migrate
from nilometer.domain import clock
from nilometer.errors import NilometerError, Unavailable
from nilometer.front import Asgi, front
from nilometer.listening import BACKLOG, listening, port_of
from nilometer.live_blobs import LiveBlobs
from nilometer.log.sqlite import SqliteLog
from nilometer.observability import logs, metrics
from nilometer.pipeline.dead_letters import DeadLetters
from nilometer.pipeline.packing import Packer
from nilometer.pipeline.pipeline import Pipeline
from nilometer.pipeline.rewriting.jobs import Rewrites
from nilometer.pipeline.rewriting.passes import passes
from nilometer.pipeline.rewriting.worker import RewriteWorker
from nilometer.pricing.files import load
from nilometer.pricing.refreshing import refreshing
from nilometer.settings import Settings
from nilometer.signals import StopSignals

if TYPE_CHECKING:
    from nilometer.capture.otlp_grpc import OtlpGrpcServer

logger = logging.getLogger(__name__)

STORE_GROUP = "store"

# How long the deletion of a project waits for the pipeline's batch under way before it tries later.
SETTLE_SECONDS = 60.0

# What the pipeline pauses in every millisecond of mapping, so that it and the event loop do not
# fight for the interpreter. In trials on a busy machine acknowledgements under load came up to half
# again as fast; mapping is then limited to about 5,000 events a second.
COURTESY_SECONDS = 0.002


def serve(settings: Settings) -> None:
    """Run the embedded profile until SIGTERM or SIGINT, then finish what is in flight.

    Raises ConfigurationError when it cannot start as configured.
    """
    logs.configure(settings.log_level)
    failpoints.configure(settings.failpoints)
    with ExitStack() as stack:
        signals = stack.enter_context(StopSignals())
        directory = stack.enter_context(closing(DataDirectory(settings.data_dir)))
        listeners = _listen(settings, stack)
        _allow_many_files()
        embedded = stack.enter_context(closing(Embedded(settings, directory)))
        # Keys can be printed only now that they are made: nothing may fail between the two.
        announce(settings, listeners, embedded.bootstrap())
        gc.freeze()  # what is loaded by now stays: collections look at requests only
        capture_port = port_of(listeners[1]) if listeners[1:] else None
        config = _uvicorn_config(settings, embedded.front(capture_port))
        grpc_server = _grpc_server(settings, embedded)
        with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
            runner.run(
                _until_asked(
                    signals,
                    _Server(config),
                    listeners,
                    embedded,
                    grpc_server,
                    settings.shutdown_grace,
                )
            )
    logger.info("stopped")


class Embedded:
    """Every part of the embedded profile, built in the order in which data flows.

    Capture is ready when the constructor returns. The store opens beside it: that takes longer,
    and no acknowledgement waits for it.
    """

    def __init__(self, settings: Settings, directory: DataDirectory) -> None:
        self._stopping = threading.Event()
        with ExitStack() as parts:
            self.database = parts.enter_context(closing(Database(settings.database_url)))
            migrate(self.database)
            self.accounts = Accounts(self.database)
            self.keyring = parts.enter_context(
                closing(Keyring(self.database, default_retention_days=settings.retention_days))
            )
            self.dead_letters = DeadLetters(self.database)
            self.blobs = parts.enter_context(
                closing(
                    open_store(
                        settings.effective_blobs_url,
                        bucket=settings.blobs_bucket,
                        s3_endpoint=settings.s3_endpoint,
                        max_read_bytes=settings.max_blob_read_bytes,
                        max_waiting_bytes=settings.max_inflight_bytes,
                        disk_reserve=settings.disk_reserve,
                        max_put_bytes=settings.max_parts_bytes,
                    )
                )
            )
            self.log = parts.enter_context(
                closing(
                    SqliteLog(
                        directory.path / "log",
                        segment_bytes=settings.log_segment_bytes,
                        max_bytes=settings.log_max_bytes,
                        keep_seconds=settings.log_keep_hours * 3600,
                        disk_reserve=settings.disk_reserve,
                        rewind_seconds=settings.log_rewind_seconds,
                    )
                )
            )
            self.store = parts.enter_context(closing(Store(directory.path / "clickhouse")))
            file_prices = load(settings.prices_file) if settings.prices_file else ()
            self._overrides = CurrentOverrides(PriceOverrides(self.database), file_prices)
            tombstoned = Tombstones(self.database).among
            packer = Packer(self.blobs, above=settings.pack_above_bytes)
            self.pipeline = Pipeline(
                log=self.log,
                store=self.store,
                dead_letters=self.dead_letters,
                group=STORE_GROUP,
                courtesy=COURTESY_SECONDS,
                batch_records=settings.pipeline_batch_records,
                batch_bytes=settings.pipeline_batch_bytes,
                batch_events=settings.pipeline_batch_events,
                linger=settings.pipeline_linger,
                dead_letter_share=settings.dead_letter_share,
                dead_letter_window=settings.dead_letter_window,
                tombstoned=tombstoned,
                overrides_of=self._overrides.of,
                pack=packer.lines,
            )
            parts.callback(self.pipeline.stop, settings.shutdown_grace)
            self.rewrites = Rewrites(self.database)
            self.rewriter = RewriteWorker(
                self.rewrites,
                passes(self.store, self._overrides.of, self.blobs, packer),
                tombstoned=tombstoned,
                settle=self._settle_prices,
            )
            self._settings = settings
            self.capture = CaptureApp(
                log=self.log, blobs=self.blobs, keyring=self.keyring, settings=settings
            )
            live = LiveBlobs(
                log=self.log, group=STORE_GROUP, dead_letters=self.dead_letters, store=self.store
            )
            self.sweeper = Sweeper(
                self.blobs,
                referenced=live.referenced,
                caught_up_to=live.caught_up_to,
                orphan_grace=settings.orphan_grace,
                interval=settings.sweep_interval,
            )
            self.deletions = DeletionWorker(
                self.database,
                settle=self._settle_writers,
                erase={
                    "rows": lambda project, stop: erase_project(self.store, project, stop),
                    "blobs": self._erase_blobs,
                    "dead_letters": lambda project, _: self._erase_letters(project),
                },
            )
            opener = threading.Thread(target=self._open_store, name="open-store", daemon=True)
            if settings.prices_refresh:
                parts.enter_context(refreshing(settings.prices_refresh, settings.prices_url))
            parts.callback(self.sweeper.stop)
            parts.callback(self.deletions.stop)
            parts.callback(self.rewriter.stop)
            parts.callback(opener.join)
            parts.callback(self._stopping.set)
            opener.start()
            self._parts = parts.pop_all()

    def bootstrap(self) -> IssuedKeys | None:
        """The first start's organization, project and keys; None when there are some."""
        key = self._settings.bootstrap_personal_key
        return self.accounts.bootstrap(key.get_secret_value() if key else None)

    def close(self) -> None:
        """Finish the batch in hand, then close every part, the last built first."""
        self._parts.close()

    def front(self, capture_port: int | None = None) -> Asgi:
        """The application of every port; see `nilometer.front`."""
        services = Services(
            accounts=self.accounts,
            wake_deletions=self.deletions.wake,
            keyring=self.keyring,
            store=self.store,
            blobs=self.blobs,
            dead_letters=self.dead_letters,
            rewrites=self.rewrites,
            wake_rewrites=self.rewriter.wake,
            log=self.log,
            pipeline=self.pipeline,
            settings=self._settings,
        )
        api = create_app(services)
        self._parts.callback(api.state.context.close)
        api.include_router(create_router(Health(self._checks(), self._refresh_gauges)))
        return front(self.capture, self.capture.paths, api, capture_port=capture_port)

    def _open_store(self) -> None:
        """Open the store, however long it takes; then let the pipeline run."""
        attempt = 0
        while not self._stopping.is_set():
            try:
                self.store.open()
            except NilometerError as error:
                attempt += 1
                logger.warning("the store cannot be opened, trying again: %s", error.detail)
                self._stopping.wait(min(30, 2**attempt) * random.uniform(0.5, 1))  # noqa: S311
            else:
                self.pipeline.start()
                self.sweeper.start()
                self.deletions.start()
                self.rewriter.start()
                return

    def _settle_writers(self) -> None:
        """Wait until everything that writes rows knows of every tombstone of now."""
        self.pipeline.settle(SETTLE_SECONDS)
        self.rewriter.settle(SETTLE_SECONDS)

    def _settle_prices(self) -> None:
        """Wait until the pipeline prices by the overrides of now."""
        self._overrides.renew()
        self.pipeline.settle(SETTLE_SECONDS)

    def _erase_letters(self, project_id: int) -> int:
        """Delete what the database has of a project's content; how many dead letters that were."""
        self.rewrites.forget(project_id)
        return self.dead_letters.delete_project(project_id)

    def _erase_blobs(self, project_id: int, stopping: threading.Event) -> int:
        """Delete a project's blobs and return how many objects there were."""
        deleted = 0
        for count in self.blobs.erase_project(project_id):
            deleted += count
            if stopping.is_set():
                raise Unavailable("the blob storage is being closed")
        return deleted

    def _checks(self) -> dict[str, dict[str, Check]]:
        async def log_ready() -> None:
            state = self.log.state()
            if not state.ready:
                raise Unavailable(state.reason)

        async def store_ready() -> None:
            await run_in_threadpool(self.store.query, "SELECT 1")

        async def pipeline_runs() -> None:
            state = self.pipeline.state()
            if not state.running:
                raise Unavailable(state.detail)

        async def database_ready() -> None:
            await run_in_threadpool(self.dead_letters.open_counts)

        return {
            "capture": {"log": log_ready, "blobs": self.blobs.probe},
            "worker": {"store": store_ready, "pipeline": pipeline_runs},
            "api": {"store": store_ready, "database": database_ready},
        }

    def _refresh_gauges(self) -> None:
        state = self.log.state()
        metrics.LOG_RECORDS.set(state.depth)
        metrics.LOG_BYTES.set(float("nan") if state.size is None else state.size)
        now = clock.to_micros(clock.now())
        for group, lag in state.groups.items():
            metrics.LOG_LAG.labels(group).set(lag.records)
            waiting = 0 if lag.oldest_at is None else max(0, now - lag.oldest_at)
            metrics.LOG_LAG_SECONDS.labels(group).set(waiting / 1e6)
        try:
            counts = self.dead_letters.open_counts()
        except NilometerError as error:
            logger.warning("dead letters cannot be counted: %s", error.detail)
            return
        metrics.DEAD_LETTERS_OPEN.clear()
        for reason, count in counts.items():
            metrics.DEAD_LETTERS_OPEN.labels(reason).set(count)


def _listen(settings: Settings, stack: ExitStack) -> list[socket.socket]:
    """The socket of everything, and that of capture alone if it is asked for."""
    if settings.otlp_grpc_port:  # gRPC opens it itself, later: here it is seen to be free
        remedy = "Choose another with NILOMETER_OTLP_GRPC_PORT; 0 turns OTLP over gRPC off."
        with listening(settings.host, settings.otlp_grpc_port, remedy=remedy):
            pass
    ports = [(settings.port, "--port or NILOMETER_PORT")]
    if settings.capture_port is not None:
        ports.append((settings.capture_port, "NILOMETER_CAPTURE_PORT"))
    return [
        stack.enter_context(
            listening(settings.host, port, remedy=f"Choose another with {setting}.")
        )
        for port, setting in ports
    ]


class _Server(uvicorn.Server):
    """uvicorn, but for its signal handling, which ends the process by the signal: exit code 143."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


def _uvicorn_config(settings: Settings, app: Asgi) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        interface="asgi3",
        loop="uvloop",
        http=bounded_protocol(
            header_timeout=settings.header_timeout,
            drain_bytes=settings.max_wire_bytes,
            drain_timeout=settings.body_idle_timeout,
            max_connections=settings.max_connections,
        ),
        backlog=BACKLOG,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=max(1, round(settings.shutdown_grace)),
    )


async def _until_asked(
    signals: StopSignals,
    server: _Server,
    listeners: list[socket.socket],
    embedded: Embedded,
    grpc_server: OtlpGrpcServer | None,
    grace: float,
) -> None:
    def stop() -> None:
        server.should_exit = True

    signals.when_asked(stop)
    if grpc_server is not None:
        await grpc_server.start()
    await server.serve(sockets=listeners)
    if grpc_server is not None:
        await grpc_server.stop(grace)
    await embedded.capture.drain()


def _grpc_server(settings: Settings, embedded: Embedded) -> OtlpGrpcServer | None:
    """The door of OTLP over gRPC, if it is asked for; its library is loaded only then."""
    if not settings.otlp_grpc_port:
        return None
    from nilometer.capture.otlp_grpc import OtlpGrpcServer

    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return OtlpGrpcServer(embedded.capture.gate, f"{host}:{settings.otlp_grpc_port}")


def _allow_many_files() -> None:
    """Raise the soft limit of open files, often 1,024, to the hard one: connections, segments and
    the store's parts need more."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
