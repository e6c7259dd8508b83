"""What passes between reading and parsing: plain values that a worker process can be sent.

for chunk in reading.read_chunks(source, start=checkpoint.position, limits=Limits()):
    parsed = parsing.parse_chunk(chunk, options)     # pure: here, or in a process of a pool
    store.keep(parsed)                               # one writer
    store.checkpoint(source, chunk.end)              # all before it has been kept
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from nilometer.importers.trace_call import Rejected, TraceCall

MIB = 1024 * 1024
Framing = Literal["lines", "values", "messages"]
"""`lines`: a record a line. `values`: JSON values of any layout, cut out of an array, of one
object's `data`, or of a sequence. `messages`: OTLP export requests in protobuf."""


class Position(NamedTuple):
    """A place between two records: bytes of content (decompressed) and lines before it."""

    offset: int = 0
    lines: int = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """What a reader accepts, in bytes; the defaults are the documented ones."""

    line: int = 32 * MIB
    """Of one record. A longer one is rejected; its bytes are hashed and passed, never kept."""
    chunk: int = MIB
    """About so much is read, and sent to a worker, at a time."""
    decompressed: int = 1 << 40
    """Of one compressed file, unpacked."""
    ratio: int = 1000
    """Unpacked bytes for each packed one, once more than `ratio_floor` came out."""
    ratio_floor: int = 64 * MIB


@dataclass(frozen=True, slots=True)
class Chunk:
    """Whole records of one source."""

    source: str
    """The source's name, as shown: a path, or `-`."""
    framing: Framing
    data: bytes
    start: Position
    end: Position
    """Where the next chunk starts; when this one is kept, reading can go on from there."""
    bounds: tuple[tuple[int, int, int], ...] = ()
    """Unless framed by lines: of each record its (start, stop) in `data` and its line, from 1."""
    rejected: tuple[Rejected, ...] = ()
    """What reading could not make records of: too long, damaged, cut short."""
    read: int = 0
    """Bytes taken from the source so far, compressed as they are: for progress."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a person says of the records beyond what they say themselves."""

    repository: str | None = None
    """Of records that name none. Must be a valid slug."""
    developer: str | None = None
    """Of records that name none."""
    now: int = 0
    """Microseconds since the epoch: the time of ProdLens records whose `timestamp` is null."""
    is_replay: bool = False
    """The records were rejected before, and a person has seen why: `repository` is also of those
    that name one by what is no name."""


class Tally(NamedTuple):
    """Where each record went: `records` is the sum of all the others but `blank`."""

    records: int = 0
    calls: int = 0
    joined: int = 0
    """Parts of a streamed answer that went into the call of another record of the chunk."""
    passed: int = 0
    """Records that are no calls: a person's turn, a tool's result, a span of something else."""
    rejected: int = 0
    blank: int = 0

    def __add__(self, other: object) -> Tally:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The sums of both."""
        if not isinstance(other, Tally):
            return NotImplemented
        return Tally(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))


@dataclass(slots=True)
class Parsed:
    """What became of a chunk's records, in their order."""

    calls: list[TraceCall] = field(default_factory=list[TraceCall])
    rejected: list[Rejected] = field(default_factory=list[Rejected])
    tally: Tally = field(default_factory=Tally)
    end: Position = field(default_factory=Position)
