"""How one source writes a call's usage, as data: where each count is, and which contain which."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Count = Literal[
    "input",
    "output",
    "total",
    "uncached",
    "tool_input",
    "cache_read",
    "cache_write",
    "cache_write_5m",
    "cache_write_1h",
    "audio_input",
    "image_input",
    "video_input",
    "audio_cache_read",
    "image_cache_read",
    "video_cache_read",
    "reasoning",
    "audio_output",
    "image_output",
]
"""What a source may count.

`input` and `output` are each side's own count, whatever it contains; `total` is both. `cache_write`
is all writes, `cache_write_5m` and `cache_write_1h` its parts. `audio_input` contains
`audio_cache_read`, as `cache_read` does; so do images and video. `uncached` is only checked
against. `tool_input` (Gemini's tool results) is always beside `input`.
"""
Paths = tuple[str, ...]
Beside = frozenset[str]
Steps = tuple[tuple[Count, tuple[tuple[str, tuple[str, ...]], ...]], ...]

CACHE: Beside = frozenset({"cache_read", "cache_write"})
WRITES: Beside = frozenset({"cache_write"})
REASONING: Beside = frozenset({"reasoning"})
INPUT_PARTS: Beside = frozenset({*CACHE, "audio_input", "image_input", "video_input"})
OUTPUT_PARTS: Beside = frozenset({"reasoning", "audio_output", "image_output"})
INSIDE: Beside = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """One convention.

    `counts` gives for each count the ordered names a source may use; in a name, `/` steps into a
    nested object and a dot is an ordinary character (attributes are flat). A name that is absent,
    null or 0 gives way to the next; two that differ make the usage contradictory.

    `beside` are the parts that their side's count does not contain; all other parts are in it.
    `or_beside` are other readings, tried in order and taken only when the reported total proves
    them right. `units` are counts of other things, by the names that prices use; `source` says
    where the contract stands.
    """

    convention: str
    source: str
    counts: Mapping[Count, Paths]
    beside: Beside = INSIDE
    or_beside: tuple[Beside, ...] = ()
    units: Mapping[str, Paths] = field(default_factory=dict[str, Paths])
    steps: Steps = field(init=False, repr=False)
    """`counts` taken apart: each count with its names and the steps of each name."""

    def __post_init__(self) -> None:
        taken_apart = tuple(
            (known, tuple((path, tuple(path.split("/"))) for path in paths))
            for known, paths in self.counts.items()
        )
        object.__setattr__(self, "steps", taken_apart)
