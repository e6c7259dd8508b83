"""The parts of a worker: what stores events, maps or prices them again, and deletes."""

from __future__ import annotations

import threading
from collections.abc import Collection, Generator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from functools import partial

from nilometer.access.deletion import DeletionWorker, Tombstones
from nilometer.access.price_overrides import CurrentOverrides, PriceOverrides
from nilometer.alerts.acceptance import accepted
from nilometer.alerts.readings import Readings
from nilometer.alerts.retention import expire as expire_alerts
from nilometer.alerts.rules import AlertRules
from nilometer.alerts.watch import RuleWatch
from nilometer.blobs.store import BlobStore
from nilometer.blobs.sweeper import Sweeper
from nilometer.budgets.arrivals import Arrivals
from nilometer.budgets.store import Budgets
from nilometer.budgets.watch import BudgetWatch
from nilometer.clickhouse.erasure import erase_project
from nilometer.clickhouse.store import Store
from nilometer.database.fence import EVERY_ROW
from nilometer.errors import Unavailable
from nilometer.foundation import STORE_GROUP, Foundation
from nilometer.incidents import retention
from nilometer.incidents.erasing import forget as forget_incidents
from nilometer.incidents.packs.active import ActivePacks
from nilometer.incidents.packs.store import Packs
from nilometer.incidents.retention import Retention
from nilometer.incidents.runtime import IncidentRuntime
from nilometer.incidents.stages import chain
from nilometer.incidents.stages.intake import Intake
from nilometer.incidents.tools.executions import Executions
from nilometer.live_blobs import LiveBlobs
from nilometer.notifications.channel_store import Channels
from nilometer.notifications.claims import Claims
from nilometer.notifications.configuration import Egress
from nilometer.notifications.deliverer import Deliverer
from nilometer.own_tools import tool_executor
from nilometer.pipeline.dead_letters import DeadLetters
from nilometer.pipeline.packing import Packer
from nilometer.pipeline.pipeline import Pipeline
from nilometer.pipeline.rewriting.jobs import Rewrites
from nilometer.pipeline.rewriting.passes import passes
from nilometer.pipeline.rewriting.worker import RewriteWorker
from nilometer.pipeline.usage_upkeep import UsageUpkeep
from nilometer.pricing.files import load
from nilometer.pricing.refreshing import refreshing
from nilometer.query.measures import Measures
from nilometer.query.spend import CallSpend
from nilometer.query.usage import Usage
from nilometer.query.usage_days import UsageDays
from nilometer.settings import Settings, read_weights

# How long the deletion of a project waits for the pipeline's batch under way before it tries later.
SETTLE_SECONDS = 60.0


class Worker:
    """Built with the store still closed; `start` once it is open. Any number may work beside each
    other: they share the log's partitions, and take turns at what only one should do."""

    def __init__(
        self,
        settings: Settings,
        foundation: Foundation,
        store: Store,
        *,
        blobs: BlobStore,
        dead_letters: DeadLetters,
        rewrites: Rewrites,
        arrivals: Arrivals,
        spend: CallSpend,
        parts: ExitStack,
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._dead_letters = dead_letters
        self._rewrites = rewrites
        self._arrivals = arrivals
        database, log = foundation.database, foundation.log
        self._database = database
        self._budgets = Budgets(database)
        self._packs = Packs(database)
        file_prices = load(settings.prices_file) if settings.prices_file else ()
        self._overrides = CurrentOverrides(PriceOverrides(database), file_prices)
        tombstoned = Tombstones(database).among
        packer = Packer(blobs, above=settings.pack_above_bytes)
        self.pipeline = Pipeline(
            log=log,
            store=store,
            dead_letters=dead_letters,
            group=STORE_GROUP,
            courtesy=foundation.courtesy,
            batch_records=settings.pipeline_batch_records,
            batch_bytes=settings.pipeline_batch_bytes,
            batch_events=settings.pipeline_batch_events,
            linger=settings.pipeline_linger,
            dead_letter_share=settings.dead_letter_share,
            dead_letter_window=settings.dead_letter_window,
            tombstoned=tombstoned,
            overrides_of=self._overrides.of,
            pack=packer.lines,
            arriving=self._arriving,
        )
        self.rewriter = RewriteWorker(
            rewrites,
            passes(store, self._overrides.of, blobs, packer),
            tombstoned=tombstoned,
            settle=self._settle_prices,
            alone=lambda: database.alone("rewrites"),
        )
        live = LiveBlobs(log=log, group=STORE_GROUP, dead_letters=dead_letters, store=store)
        self.sweeper = Sweeper(
            blobs,
            referenced=live.referenced,
            caught_up_to=live.caught_up_to,
            orphan_grace=settings.orphan_grace,
            interval=settings.sweep_interval,
            alone=lambda: database.alone("blob sweeps"),
        )
        egress = Egress.of(settings)
        self._channels = Channels(database, egress)
        self.deliverer = Deliverer(Claims(database), egress)
        self.budget_watch = BudgetWatch(
            database,
            spend.of_project,
            raising=accepted,
            told=self._note_told,
            alone=lambda: database.alone("budgets"),
        )
        self._alert_rules = AlertRules(database)
        self.rule_watch = RuleWatch(
            database,
            Usage(store).groups,
            Readings(Measures(store, timedelta(seconds=settings.alert_rule_seconds)), database).of,
            raising=accepted,
            told=self._note_told,
            alone=lambda: database.alone("alert rules"),
            interval=settings.alert_rule_seconds,
        )
        self.usage_upkeep = UsageUpkeep(
            UsageDays(store), alone=lambda: database.alone("usage by the day")
        )
        assert foundation.exceptions is not None, "a worker tells of incidents"
        self._executions = Executions()
        executor = tool_executor(database, log, store, egress.reach)
        packs = ActivePacks()
        self.incidents = IncidentRuntime(
            database,
            foundation.exceptions,
            chain.build(packs, self._executions, executor),
            shared=settings.distributed,
            lease=timedelta(seconds=settings.task_lease),
            places=settings.tool_concurrency,
            weights=read_weights(settings.exception_weights),
            before=lambda tasks: packs.load(database, {task.project_id for task in tasks}),
        )
        self.retention = Retention(
            database,
            settings.retention_days,
            others=(partial(expire_alerts, database),),
            alone=lambda: database.alone(retention.NAME),
        )
        self.deletions = DeletionWorker(
            database,
            settle=self._settle_writers,
            erase={
                "rows": lambda project, stop: erase_project(store, project, stop),
                "blobs": self._erase_blobs,
                "dead_letters": self._erase_letters,
            },
        )
        parts.callback(self.deliverer.stop)
        parts.callback(self.incidents.stop)
        parts.callback(self.retention.stop)
        parts.callback(self.budget_watch.stop)
        parts.callback(self.rule_watch.stop)
        parts.callback(self.pipeline.stop, settings.shutdown_grace)
        if settings.prices_refresh:
            parts.enter_context(refreshing(settings.prices_refresh, settings.prices_url))
        parts.callback(self.sweeper.stop)
        parts.callback(self.deletions.stop)
        parts.callback(self.rewriter.stop)
        parts.callback(self.usage_upkeep.stop)

    def start(self) -> None:
        """Begin, each part in a thread of its own: the store is open."""
        self.pipeline.start()
        self.sweeper.start()
        self.deletions.start()
        self.rewriter.start()
        self.usage_upkeep.start()
        self.deliverer.start()
        self.budget_watch.start()
        self.rule_watch.start()
        self.incidents.start()
        self.retention.start()

    @contextmanager
    def _arriving(self, project_ids: Collection[int]) -> Generator[None]:
        """Calls of these projects are stored: of whom what is known of budgets is not new."""
        with self._arrivals.arriving(project_ids):
            yield
        if project_ids:
            self.budget_watch.stored(project_ids)

    def _note_told(self) -> None:
        """Something fired: notifications wait to be sent, and exceptions to be handled."""
        self.deliverer.wake()
        self.incidents.wake((Intake.queue,))

    def _settle_writers(self) -> None:
        """Wait until everything here that writes rows knows of every tombstone of now. Another
        worker's batch may still be under way: the deletion looks once more, later."""
        self.pipeline.settle(SETTLE_SECONDS)
        self.rewriter.settle(SETTLE_SECONDS)

    def _settle_prices(self) -> None:
        """Wait until the pipeline prices by the overrides of now."""
        self._overrides.renew()
        self.pipeline.settle(SETTLE_SECONDS)

    def _erase_letters(self, project_id: int, stopping: threading.Event) -> int:
        """Delete what the database has of a project's content; how many dead letters that were."""
        self._rewrites.forget(project_id)
        self._budgets.forget(project_id)
        self._alert_rules.forget(project_id)
        self._channels.forget(project_id)
        self._forget_incidents(project_id, stopping)
        return self._dead_letters.delete_project(project_id)

    def _forget_incidents(self, project_id: int, stopping: threading.Event) -> None:
        forget_incidents(self._database, project_id, stopping=stopping)
        with self._database.concurrent(EVERY_ROW) as session:
            self._executions.forget(session, project_id)
        self._packs.forget(project_id)

    def _erase_blobs(self, project_id: int, stopping: threading.Event) -> int:
        """Delete a project's blobs and return how many objects there were."""
        deleted = 0
        for count in self._blobs.erase_project(project_id):
            deleted += count
            if stopping.is_set():
                raise Unavailable("the blob storage is being closed")
        return deleted
