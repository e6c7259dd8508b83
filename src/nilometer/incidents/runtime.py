"""Everything of incidents that runs in a worker: the stages, the clock, the relay, the drivers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial

from nilometer.database.engine import Database
from nilometer.database.fence import EVERY_ROW
from nilometer.domain import clock
from nilometer.incidents import relay
from nilometer.incidents.drivers import Driver
from nilometer.incidents.relay import Relay
from nilometer.incidents.stages.chain import RETRIES, Chain, Clock
from nilometer.incidents.stages.tool import Started
from nilometer.incidents.tools.call import Performed
from nilometer.log.port import Log
from nilometer.workflows import settling
from nilometer.workflows.claims import Sharing
from nilometer.workflows.effect_runner import PLACES, EffectRunner
from nilometer.workflows.loop import Loop
from nilometer.workflows.runner import Running
from nilometer.workflows.stage_runner import StageRunner
from nilometer.workflows.task import Task

CLOCK = "incident clock"
"""What only one process at a time does."""

_TEND_SECONDS = 60.0
_CLOCKS_DIFFER = timedelta(minutes=5)


class IncidentRuntime:
    """Works on incidents until `stop`. Any number of processes may, on one database.

    `shared` is whether others work beside this one, and read the log that this one is given: the
    log then drives the stages. Where this process is alone, it wakes them itself, and whoever had
    tasks before it is heard of no more.
    """

    def __init__(
        self,
        database: Database,
        log: Log,
        chain: Chain,
        *,
        shared: bool,
        lease: timedelta,
        places: int = PLACES,
        weights: Mapping[int, int] | None = None,
        before: Callable[[Sequence[Task]], None] | None = None,
    ) -> None:
        """`places` is how many tools are used at once, `weights` those of projects that have one of
        their own. `before` is done before each transaction of a stage."""
        self._database = database
        self._shared = shared
        self._longest = lease + _CLOCKS_DIFFER
        weight_of = partial(_weight, weights or {})
        running = Running(policies=RETRIES, lease=lease, wake=self.wake)
        self._stages: list[StageRunner] = [
            StageRunner(
                database, stage, running, Sharing(weight_of), kinds=stage.kinds, before=before
            )
            for stage in chain.stages
        ]
        self._tools: EffectRunner[Started, Performed] = EffectRunner(
            database, chain.tool, running, places=places, weight_of=weight_of, before=before
        )
        self._runners: dict[str, StageRunner | EffectRunner[Started, Performed]] = {
            runner.queue: runner for runner in (*self._stages, self._tools)
        }
        self._relay = Relay(database, log, alone=lambda: database.alone(relay.NAME))
        self._clock = Clock(
            database,
            wake=self._wake_all,
            alone=lambda: database.alone(CLOCK),
        )
        self._upkeep = Loop("task-upkeep", self._tend, _TEND_SECONDS)
        drives = self._runners.values() if shared else ()
        self._drivers: Sequence[Driver] = [Driver(log, runner) for runner in drives]

    def start(self) -> None:
        """Begin, each part in threads of its own. Raises DatabaseUnavailable."""
        if not self._shared:
            with self._database.concurrent(EVERY_ROW) as session:
                settling.take_back(session, clock.now())
        own = self._upkeep, self._relay, self._clock
        for part in (*own, *self._runners.values(), *self._drivers):
            part.start()

    def stop(self) -> None:
        """End, when what is in hand is done."""
        if self._drivers:  # each leaves its group, which takes a moment: all at once
            with ThreadPoolExecutor(len(self._drivers)) as leaving:
                list(leaving.map(Driver.stop, self._drivers))
        for part in (*self._runners.values(), self._clock, self._upkeep, self._relay):
            part.stop()

    def wake(self, queues: Collection[str]) -> None:
        """Look now: these queues were added to, and that is committed. Returns at once."""
        for queue in queues:
            if queue in self._runners:
                self._runners[queue].wake()

    def _tend(self) -> bool:
        with self._database.concurrent(EVERY_ROW) as session:
            settling.shorten(session, clock.now(), self._longest)
        return False

    def _wake_all(self) -> None:
        self.wake(self._runners)


def _weight(weights: Mapping[int, int], project_id: int) -> int:
    return weights.get(project_id, 1)
