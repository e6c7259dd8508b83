"""The whole chain in this process, at a time that a test moves, with tools that do as it says."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select

from nilometer.access.accounts import Accounts
from nilometer.database.engine import Database
from nilometer.database.fence import EVERY_ROW
from nilometer.domain import clock
from nilometer.incidents import accept, decisions, history
from nilometer.incidents.events import IncidentEvent
from nilometer.incidents.history import History
from nilometer.incidents.incident import Accepted, Actor, ActorKind, Incident, NewException
from nilometer.incidents.packs.reading import parse_pack
from nilometer.incidents.stages import expiry, sla
from nilometer.incidents.stages.chain import RETRIES, build
from nilometer.incidents.stages.context import NoPacks, PackVersion
from nilometer.incidents.tools.call import ErrorClass, Failed, Succeeded, ToolCall, Unknown
from nilometer.incidents.tools.executions import Executions
from nilometer.workflows import dead_letters
from nilometer.workflows.effect_runner import EffectRunner
from nilometer.workflows.runner import Running
from nilometer.workflows.stage_runner import StageRunner
from nilometer.workflows.tables import TaskRow
from nilometer.workflows.task import TaskState, task_id
from tests.running import wait_until

ALICE = Actor(ActorKind.KEY, "alice")
BOB = Actor(ActorKind.KEY, "bob")

PACK: dict[str, Any] = {
    "format": 1,
    "name": "orders",
    "exceptions": [{"type": "OrderFailed", "aliases": ["order_failed"], "severity": "high"}],
    "playbooks": [
        {
            "name": "mend",
            "types": ["OrderFailed"],
            "steps": [
                {"name": "note", "comment": "Order {{ exception.payload.order }}"},
                {"name": "call", "tool": "notify", "params": {"title": "mend it"}},
            ],
        }
    ],
}


class OnePack:
    """One pack, active in every project."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._version = PackVersion(parse_pack(document), document["name"], 1)

    def choose(self, session, project_id, exception_type, domain):
        return self._version

    def version(self, session, project_id, name, version):
        return self._version


class Tools:
    """Does what it is told for the next attempts of an execution, then succeeds. `effects` counts
    what was brought about by idempotency key, `asked` every attempt."""

    def __init__(self) -> None:
        self.plan: defaultdict[str, list[Any]] = defaultdict(list)
        self.effects: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()
        self.reconciled: Counter[str] = Counter()
        self._lock = threading.Lock()

    def next(self, *outcomes: Any, tool: str = "notify") -> None:
        """Of the next attempts with this tool."""
        self.plan[tool] += outcomes

    def execute(self, call: ToolCall) -> Any:
        with self._lock:
            self.asked[call.execution_id] += 1
            outcome = self.plan[call.tool].pop(0) if self.plan[call.tool] else Succeeded({"ok": 1})
            if not isinstance(outcome, Failed):
                self.effects[call.execution_id] += 1
        if outcome is RuntimeError:
            raise RuntimeError
        return outcome

    def reconcile(self, call: ToolCall) -> Any:
        self.reconciled[call.execution_id] += 1
        if self.effects[call.execution_id]:
            return Succeeded({"found": 1})
        return self.execute(call)


BUSY = Failed("busy", "It is busy.", ErrorClass.TRANSIENT, asked=True)
REFUSED = Failed("refused", "It refuses.", ErrorClass.PERMANENT, asked=True)
UNHEARD = Unknown("timeout", "It did not answer.", reconcilable=True, asked=True)
UNKNOWABLE = Unknown(
    "timeout", "It did not answer, and cannot be asked.", reconcilable=False, asked=True
)


@dataclass
class Handling:
    """A database, a project, and the chain over them."""

    database: Database
    document: dict[str, Any] | None = None
    joined: bool = True
    now: datetime = field(default_factory=clock.now)
    tools: Tools = field(default_factory=Tools)

    def __post_init__(self) -> None:
        created = Accounts(self.database).bootstrap(None)
        self.project_id = created.project_id if created else 1
        self.use(self.document)

    def use(self, document: dict[str, Any] | None, **running: Any) -> None:
        """Work by this pack from now on."""
        packs = NoPacks() if document is None else OnePack(document)
        self.chain = build(packs, Executions(), self.tools, joined=self.joined)
        settings = Running(policies=RETRIES, now=lambda: self.now, **running)
        self.stages = [StageRunner(self.database, each, settings) for each in self.chain.stages]
        self.effects = EffectRunner(self.database, self.chain.tool, settings)

    def accept(self, *exceptions: NewException, project: int | None = None, **more: Any) -> Any:
        with self.database.session(EVERY_ROW) as session:
            return accept.raise_exceptions(
                session,
                project or self.project_id,
                exceptions or [order()],
                actor=more.pop("actor", ALICE),
                now=self.now,
                **more,
            )

    def one(self, *exceptions: NewException, **more: Any) -> str:
        """Accept one exception; its id."""
        accepted: list[Accepted] = self.accept(*exceptions, **more)
        return accepted[0].exception_id

    def look(self) -> bool:
        """One look of every stage; whether any found something to do."""
        found = [stage.look() for stage in self.stages]
        found.append(self.effects.look())
        wait_until(lambda: self.effects.record() or not self.effects._under_way)
        return any(found)

    def run(self) -> None:
        """Until nothing is due."""
        while self.look():
            pass

    def later(self, **time: float) -> None:
        self.now += timedelta(**time)

    def settle(self, **time: float) -> None:
        """Run, and run again later, until nothing waits for its time."""
        self.run()
        while self.waiting():
            self.later(**(time or {"seconds": 400}))
            self.run()

    def waiting(self) -> int:
        """How many tasks are not done and not dead."""
        query = select(func.count()).where(TaskRow.due_at.is_not(None))
        with self.database.read(EVERY_ROW) as session:
            return session.scalar(query) or 0

    def sweep(self) -> int:
        """What time has brought about."""
        with self.database.session(EVERY_ROW) as session:
            return sla.sweep(session, self.now, 100) + expiry.sweep(session, self.now, 100)

    def decide(self, decision: Callable[..., Any], *args: Any, **more: Any) -> Any:
        """One of `decisions`, by Bob unless told otherwise."""
        with self.database.session(EVERY_ROW) as session:
            actor = more.pop("actor", BOB)
            return decision(session, self.project_id, *args, actor=actor, now=self.now, **more)

    def incident(self, exception_id: str, project: int | None = None) -> Incident:
        with self.database.session(EVERY_ROW) as session:
            return History(session, self.now).one(project or self.project_id, exception_id)

    def events(self, exception_id: str, project: int | None = None) -> list[IncidentEvent]:
        with self.database.read(EVERY_ROW) as session:
            return history.events_of(session, project or self.project_id, exception_id)

    def types(self, exception_id: str) -> list[str]:
        return [event.kind.name for event in self.events(exception_id)]

    def told(self, exception_id: str, kind: str) -> list[Any]:
        """The payloads of the events of a type."""
        return [each.payload for each in self.events(exception_id) if each.kind.name == kind]

    def letters(self) -> Sequence[dead_letters.DeadTask]:
        dead = select(TaskRow).where(TaskRow.state == TaskState.DEAD)
        with self.database.read(EVERY_ROW) as session:
            ids = [task_id(row.lane, row.sequence) for row in session.scalars(dead)]
            return [dead_letters.get(session, self.project_id, each) for each in ids]

    def replay(self, reason: str = "mended") -> None:
        """Every dead letter."""
        for letter in self.letters():
            self.decide(decisions.replay_dead_letter, letter.id, reason=reason)


def order(number: int = 1, **more: Any) -> NewException:
    return NewException("order_failed", "shop", payload={"order": number}, **more)


def contiguous(events: Sequence[IncidentEvent]) -> bool:
    """Whether a history has no gap, and each event names one before it as its cause."""
    known: set[str] = set()
    for place, event in enumerate(events, 1):
        if event.sequence != place or (event.causation_id and event.causation_id not in known):
            return False
        known.add(event.event_id)
    return True
