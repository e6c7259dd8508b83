"""Trace files into the store, the server, or nothing (`--dry-run`), chunk by chunk.

A chunk is read here; parsed and priced here or, where there is much to do, in worker processes;
and kept here, in the order of the file, together with the checkpoint after it: whenever the process
ends, the next one goes on behind what was kept, and what comes twice counts once.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from nilometer.errors import InvalidInput, Unavailable
from nilometer.importers import parsing, reading
from nilometer.importers.chunk import Chunk, Limits, Options, Position, Tally
from nilometer.importers.priced import PricedRows, Pricer
from nilometer.importers.reading import UNREADABLE, Source
from nilometer.importers.statistics import Statistics
from nilometer.importers.store.letters import NewLetter
from nilometer.importers.store.store import Counts
from nilometer.importers.trace_call import Rejected, TraceCall

POOL_BYTES = 16 * 1024 * 1024
"""From so much to read on, workers parse: they take a second or two to start."""
MAX_WORKERS = 4
_AHEAD = 2
"""Chunks that wait for each worker: what is read and not kept is bounded by it."""


@dataclass(frozen=True, slots=True)
class Work:
    """What is asked of a worker for each chunk. `prices` is a file of one's own; with `calls` the
    calls themselves come back, for a server, which prices them."""

    options: Options
    prices: Path | None = None
    calls: bool = False


@dataclass(slots=True)
class Done:
    """What became of a chunk, as a worker sends it back."""

    end: Position
    read: int
    looked_at: range
    """The offsets of its bytes: `end` may be before the last."""
    tally: Tally
    rows: PricedRows = field(default_factory=lambda: PricedRows([], 0))
    calls: Sequence[TraceCall] = ()
    rejected: Sequence[Rejected] = ()
    seconds: dict[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True, slots=True)
class Rest:
    """What became of what was held back of a source, and how many calls still are."""

    counts: Counts = field(default_factory=Counts)
    held: int = 0


class Keeper(Protocol):
    """Where calls go."""

    wants_calls: bool
    """Whether it takes calls as they are told, not rows."""

    def position(self, source: Source) -> Position:
        """Where to go on with a source."""
        ...

    def keep(self, source: Source, done: Done, letters: Sequence[NewLetter]) -> Counts:
        """Keep what a chunk held, durably, and that it was read."""
        ...

    def rest(self, source: Source) -> Rest:
        """All was read that a source has by now: keep what of it need not be held back."""
        ...


Progress = Callable[[Source, int], None]
"""Told after each chunk how many bytes of the source were read so far."""


def ingest(
    sources: Iterable[Source],
    keeper: Keeper,
    work: Work,
    *,
    limits: Limits | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
    chunks_of: Callable[[Source, Position, Limits], Iterator[Chunk]] = reading.read_chunks,
) -> Statistics:
    """Read the sources to their ends, one after the other; what was done.

    `workers` are processes that parse: by default one a processor for more than `POOL_BYTES`, else
    none. Raises InvalidInput for a file that cannot be read, when the others have been; Unavailable
    where a worker is killed; and what the keeper raises. Everything before that is kept.
    """
    found, statistics = list(sources), Statistics()
    began = time.perf_counter()
    unreadable: list[InvalidInput] = []
    with _whole_workers(), _executor(_count(workers, found), work) as submit:
        for source in found:
            try:
                _ingest_one(
                    source, keeper, statistics, submit, limits or Limits(), progress, chunks_of
                )
            except InvalidInput as error:
                if error.code != UNREADABLE:
                    raise
                unreadable.append(error)
            statistics.seconds = time.perf_counter() - began
    if unreadable:
        raise unreadable[0]
    return statistics


def letters_of(source: Source, rejected: Iterable[Rejected]) -> list[NewLetter]:
    """Rejected records as dead letters of their source."""
    return [
        NewLetter(
            reason=str(each.reason),
            detail=each.detail,
            source=source.key,
            source_hash=each.source_hash,
            line=each.line,
            offset=each.offset,
            raw=each.raw,
            raw_bytes=each.size,
        )
        for each in rejected
    ]


def _ingest_one(
    source: Source,
    keeper: Keeper,
    statistics: Statistics,
    submit: Callable[[Chunk], Future[Done]],
    limits: Limits,
    progress: Progress | None,
    chunks_of: Callable[[Source, Position, Limits], Iterator[Chunk]],
) -> None:
    read = 0
    for done in _in_order(
        _timed(chunks_of(source, keeper.position(source), limits), statistics), submit
    ):
        letters = letters_of(source, done.rejected)
        with statistics.timed("store"):
            counts = keeper.keep(source, done, letters)
        _count_in(statistics, counts, done, letters)
        statistics.bytes += max(0, done.read - read)
        read = done.read
        if progress is not None:
            progress(source, read)
    rest = keeper.rest(source)
    statistics.counts.add(rest.counts)
    statistics.held += rest.held


def _count_in(
    statistics: Statistics, counts: Counts, done: Done, letters: Sequence[NewLetter]
) -> None:
    statistics.counts.add(counts)
    statistics.tally += done.tally
    statistics.calls += done.tally.calls
    statistics.unpriced += done.rows.unpriced
    statistics.rejected += Counter(letter.reason for letter in letters)
    for stage, seconds in done.seconds.items():
        statistics.took(stage, seconds)


def _timed(chunks: Iterator[Chunk], statistics: Statistics) -> Iterator[Chunk]:
    while True:
        with statistics.timed("read"):
            chunk = next(chunks, None)
        if chunk is None:
            return
        yield chunk


def _in_order(chunks: Iterator[Chunk], submit: Callable[[Chunk], Future[Done]]) -> Iterator[Done]:
    """What became of each chunk, in order, with a few on the way: of all that could be read, before
    what reading raises."""
    waiting: deque[Future[Done]] = deque()
    most = getattr(submit, "ahead", 0)
    failed: list[InvalidInput] = []
    for chunk in _readable(chunks, failed):
        waiting.append(submit(chunk))
        if len(waiting) > most:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
    if failed:
        raise failed[0]


def _readable(chunks: Iterator[Chunk], failed: list[InvalidInput]) -> Iterator[Chunk]:
    """Chunks, until a file cannot be read: that is put beside."""
    try:
        yield from chunks
    except InvalidInput as error:
        failed.append(error)


def _count(workers: int | None, sources: Sequence[Source]) -> int:
    if workers is not None:
        return workers
    known = sum(source.size or 0 for source in sources)
    if known < POOL_BYTES:
        return 0
    return min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1, MAX_WORKERS)


class _Here:
    """Parses in this process."""

    ahead = 0

    def __init__(self, work: Work) -> None:
        self._worker = _Worker(work)

    def __call__(self, chunk: Chunk) -> Future[Done]:
        done: Future[Done] = Future()
        done.set_result(self._worker.done(chunk))
        return done


class _Pool:
    """Parses in others."""

    def __init__(self, executor: Executor, count: int) -> None:
        self._executor = executor
        self.ahead = count * _AHEAD

    def __call__(self, chunk: Chunk) -> Future[Done]:
        return self._executor.submit(_done, chunk)


@contextmanager
def _whole_workers() -> Generator[None]:
    try:
        yield
    except BrokenProcessPool:
        raise Unavailable(
            "a process that parses was killed, perhaps for want of memory; run the same command"
            " again: it goes on behind what was kept"
        ) from None


@contextmanager
def _executor(count: int, work: Work) -> Generator[Callable[[Chunk], Future[Done]]]:
    with ExitStack() as stack:
        if not count:
            yield _Here(work)
            return
        executor = stack.enter_context(
            ProcessPoolExecutor(
                count, multiprocessing.get_context("spawn"), initializer=_start, initargs=(work,)
            )
        )
        try:
            yield _Pool(executor, count)
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            raise


class _Worker:
    def __init__(self, work: Work) -> None:
        self._work = work
        self._pricer = Pricer(work.prices)

    def done(self, chunk: Chunk) -> Done:
        began = time.perf_counter()
        parsed = parsing.parse_chunk(chunk, self._work.options)
        between = time.perf_counter()
        began_at = chunk.start.offset
        looked_at = range(began_at, max(parsed.end.offset, began_at + len(chunk.data)))
        done = Done(parsed.end, chunk.read, looked_at, parsed.tally, rejected=parsed.rejected)
        if self._work.calls:
            done.calls = parsed.calls
        else:
            done.rows = self._pricer.rows(parsed.calls)
        ended = time.perf_counter()
        done.seconds = {"parse": between - began, "price": ended - between}
        return done


_WORKERS: list[_Worker] = []


def _start(work: Work) -> None:
    """In a new worker process."""
    _WORKERS[:] = [_Worker(work)]


def _done(chunk: Chunk) -> Done:
    return _WORKERS[0].done(chunk)
