"""Answers of transcripts that may still grow: who can take each only once holds them back.

Claude Code writes a line for each block of an answer while it streams, with usage that grows. An
answer is whole when the same agent has begun another one, when much of the file follows it, or when
nothing has been written to the file for so long that no answer still streams. Older transcripts do
not tell sub-agents apart, whose lines alternate: of theirs it is whole when 16 others have begun.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

from nilometer.importers.chunk import MIB, Position
from nilometer.importers.reading import Source
from nilometer.importers.telling import joined
from nilometer.importers.trace_call import TraceCall

QUIET_SECONDS = 900
"""Claude Code gives up on an answer after ten minutes (its API_TIMEOUT_MS)."""
SETTLED_BYTES = 4 * MIB
"""Of the file behind an answer: also what is read again at the most to find the rest of one."""

AT_ONCE = 16
"""Answers that sub-agents which are not told apart may be giving at the same time."""


class Growing:
    """Those of one file: the last of each agent's, and the last `AT_ONCE` of those that are not
    told apart."""

    def __init__(self) -> None:
        self._held: dict[tuple[str | None, bool], dict[str, TraceCall]] = {}
        self._end = Position()
        self.parts = 0
        """Lines of answers that were held, joined with what was known of them."""

    def __len__(self) -> int:
        return sum(map(len, self._held.values()))

    @property
    def position(self) -> Position:
        """Where reading must go on to find all that is held again."""
        starts = (Position(call.offset, call.line - 1) for call in self._calls())
        return min((self._end, *starts))

    def settled(self, calls: Iterable[TraceCall], end: Position) -> list[TraceCall]:
        """Of what is held and of the calls of the next chunk, which ends there, those that are
        whole."""
        whole = self.all() if end < self._end else []  # the file was replaced
        self._end = end
        for call in calls:
            if call.source != "claude_code":
                whole.append(call)
                continue
            is_untold = call.is_sidechain and call.agent is None
            held = self._held.setdefault((call.agent, is_untold), {})
            if known := held.get(call.key):
                (held[call.key],) = joined([known, call])
                self.parts += 1
                continue
            held[call.key] = call
            if len(held) > (AT_ONCE if is_untold else 1):
                whole.append(held.pop(next(iter(held))))
        for held in self._held.values():
            far = [call for call in held.values() if end.offset - call.offset > SETTLED_BYTES]
            whole += [held.pop(call.key) for call in far]
        return whole

    def all(self) -> list[TraceCall]:
        """All that is held, which is held no more: the file is whole."""
        whole = list(self._calls())
        self._held.clear()
        return whole

    def _calls(self) -> Iterator[TraceCall]:
        return (call for held in self._held.values() for call in held.values())


def is_quiet(source: Source, now: Callable[[], float] = time.time) -> bool:
    """Whether no line will come to a source, as far as can be told: to a file for a time, to what
    is no file at its end."""
    if source.path is None or not source.path.is_file():
        return True
    return now() - source.path.stat().st_mtime >= QUIET_SECONDS
