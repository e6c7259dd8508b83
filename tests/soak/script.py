"""Ends every process and server in turn, with kill -9 and in order, and starts it again."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from tests.soak.load import Broken, Load

ENDS = ("kill", "stop")


@dataclass
class Target:
    """A process or a server: how it is killed, ended in order and started again, each of which
    returns when it is done. `url` is where its clients are, if it has some of its own; `away` the
    times in which it did not run."""

    name: str
    kill: Callable[[], None]
    stop: Callable[[], None]
    start: Callable[[], object]
    url: str = ""
    away: list[tuple[float, float]] = field(default_factory=list)

    def excuses(self, broken: Broken) -> bool:
        """Whether it was away while the request was under way."""
        return self.url == broken.url and any(
            began < broken.ended and broken.began < ended for began, ended in self.away
        )


@dataclass(frozen=True, slots=True)
class Step:
    """One end of one target, with the seconds until it ran again, and until events were
    acknowledged after that."""

    target: str
    end: str
    away: float
    recovery: float


class Script:
    """Carries steps out while the load goes on. A target is away up to `longest_away` seconds more
    than its start takes."""

    def __init__(self, load: Load, *, longest_away: float) -> None:
        self._load = load
        self._longest_away = longest_away
        self._never = threading.Event()
        self.steps: list[Step] = []

    def turns(self, targets: Sequence[Target], seconds: float) -> None:
        """Until the time is over, end each target in turn, in an order that changes, by one kind of
        end and then by the other."""
        deadline = time.monotonic() + seconds
        number = 0
        while time.monotonic() < deadline:
            order = random.sample(range(len(targets)), len(targets))
            for place in order:
                if time.monotonic() > deadline:
                    return
                self.step(targets[place], ENDS[(place + number) % 2])
            number += 1

    def step(self, target: Target, end: str) -> None:
        """End it, leave it for a while, start it, and see events acknowledged."""
        began = time.monotonic()
        {"kill": target.kill, "stop": target.stop}[end]()
        self._never.wait(random.uniform(0, self._longest_away))
        target.start()
        started = time.monotonic()
        target.away.append((began, started))
        self._load.more(20)
        self.steps.append(Step(target.name, end, started - began, time.monotonic() - started))


def unexcused(broken: Iterable[Broken], targets: Sequence[Target]) -> list[Broken]:
    """The requests that broke although the process that they went to ran."""
    return [each for each in broken if not any(target.excuses(each) for target in targets)]
