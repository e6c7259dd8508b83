"""What a move tells: how far it is, and what was compared."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

MODULUS = 1 << 64


@dataclass(slots=True)
class Tally:
    """How many, and the sum of their hashes: the same in whatever order they come."""

    count: int = 0
    digest: int = 0

    def add(self, digest: int, count: int = 1) -> None:
        """Count some more."""
        self.count += count
        self.digest = (self.digest + digest) % MODULUS

    @property
    def text(self) -> str:
        """The digest as it is shown."""
        return f"{self.digest:016x}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """One thing of the source beside the target's. `project_id` is None for what is no project's.
    `note` says in a few words what differs, or why nothing was to be compared."""

    part: str
    name: str
    project_id: int | None
    source: Tally
    target: Tally
    note: str = ""
    excused: bool = False

    @property
    def equal(self) -> bool:
        """Whether both are the same."""
        return self.source == self.target

    @property
    def fine(self) -> bool:
        """Whether nothing is wrong: equal, or different for a reason."""
        return self.equal or self.excused


@dataclass(frozen=True, slots=True)
class Report:
    """The end of a run. `moved` counts what this run wrote, by part."""

    state: str
    finished_at: datetime | None = None
    moved: dict[str, int] = field(default_factory=dict[str, int])
    comparisons: list[Comparison] = field(default_factory=list[Comparison])

    @property
    def fine(self) -> bool:
        """Whether nothing that was compared differs."""
        return all(each.fine for each in self.comparisons)


class Progress(Protocol):
    """Is told how far a move has come. Steps are of one part each, one after the other."""

    def begin(self, step: str, total: int) -> None:
        """A step of so many begins."""
        ...

    def advance(self, count: int) -> None:
        """So many more of it are done."""
        ...
