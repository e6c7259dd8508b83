"""Makes checks beside each other, each within its time, whatever the servers do."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nilometer.doctor.finding import Check, Finding, Outcome, Verdict, failed, sentence
from nilometer.errors import NilometerError


@dataclass(slots=True)
class _Running:
    check: Check
    started: float
    until: float


def run(checks: Sequence[Check], *, seconds: float) -> list[Finding]:
    """The findings, in the order of the checks.

    A check begins when those that it needs have ended well; where one has not, it is skipped. One
    that takes longer than its time has failed, and its thread is left behind: no server can hold
    up the whole for longer than its longest chain of checks.
    """
    examination = _Examination(checks, seconds)
    examination.run()
    return [examination.findings[check.name] for check in checks]


class _Examination:
    def __init__(self, checks: Sequence[Check], seconds: float) -> None:
        self.findings: dict[str, Finding] = {}
        self._names = {check.name for check in checks}
        self._waiting = list(checks)
        self._seconds = seconds
        self._running: dict[str, _Running] = {}
        self._answers: queue.SimpleQueue[tuple[str, Verdict]] = queue.SimpleQueue()

    def run(self) -> None:
        while self._waiting or self._running:
            for check in self._ready():
                self._start(check)
            if self._running:
                self._take()
                self._give_up_late()

    def _ready(self) -> Iterator[Check]:
        """Those that can begin; those that never will are skipped."""
        for check in list(self._waiting):
            known = [need for need in check.needs if need in self._names]
            found = [self.findings[need] for need in known if need in self.findings]
            cause = next((each for each in found if each.outcome in _UNWELL), None)
            if cause is not None:
                self._waiting.remove(check)
                because = cause.because or cause.name
                found = f"Not looked at, because {because} failed."
                self.findings[check.name] = Finding(
                    check.name, Outcome.SKIPPED, found, because=because
                )
            elif len(found) == len(known):
                self._waiting.remove(check)
                yield check

    def _start(self, check: Check) -> None:
        now = time.monotonic()
        bound = self._seconds if check.seconds is None else check.seconds
        self._running[check.name] = _Running(check, now, now + bound)
        threading.Thread(
            target=self._examine, args=(check,), name=f"doctor-{check.name}", daemon=True
        ).start()

    def _examine(self, check: Check) -> None:
        try:
            verdict = check.examine()
        except NilometerError as error:
            verdict = failed(sentence(error.detail), check.remedy)
        except Exception as error:  # noqa: BLE001  (one surprise must not hide the other findings)
            # Its text could quote what a server was given.
            verdict = failed(
                f"It could not be looked at: unexpected {type(error).__name__}.", check.remedy
            )
        self._answers.put((check.name, verdict))

    def _take(self) -> None:
        soonest = min(each.until for each in self._running.values())
        try:
            name, verdict = self._answers.get(timeout=max(0.0, soonest - time.monotonic()))
        except queue.Empty:
            return
        if name in self._running:  # else it was given up before
            self._settle(name, verdict)

    def _give_up_late(self) -> None:
        now = time.monotonic()
        for name, each in list(self._running.items()):
            if each.until <= now:
                bound = each.until - each.started
                self._settle(name, failed(f"No answer within {bound:g} s.", each.check.remedy))

    def _settle(self, name: str, verdict: Verdict) -> None:
        taken = time.monotonic() - self._running.pop(name).started
        self.findings[name] = Finding(
            name, verdict.outcome, verdict.found, verdict.remedy, verdict.because, taken
        )


_UNWELL = frozenset({Outcome.FAILED, Outcome.SKIPPED})
