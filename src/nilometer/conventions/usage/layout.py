"""How one source writes a call's usage, as data: where each count is, and which contain which."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Generic, Literal, TypeVar

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
Names = tuple[tuple[str, tuple[str, ...]], ...]
"""Names of one count, each with its steps."""

_Known = TypeVar("_Known", bound=str)
_KEPT_READINGS = 512

CACHE: Beside = frozenset({"cache_read", "cache_write"})
WRITES: Beside = frozenset({"cache_write"})
REASONING: Beside = frozenset({"reasoning"})
INPUT_PARTS: Beside = frozenset({*CACHE, "audio_input", "image_input", "video_input"})
OUTPUT_PARTS: Beside = frozenset({"reasoning", "audio_output", "image_output"})
INSIDE: Beside = frozenset()
CACHE_NAMES: Mapping[str, Literal["cache_read", "cache_write"]] = {
    **dict.fromkeys(
        (
            *("cache_read_input_tokens", "cached_tokens", "prompt_cache_hit_tokens"),
            *("cacheReadInputTokens", "cacheReadInputTokenCount", "cachedInputTokens"),
            *("cachedContentTokenCount", "cached_content_token_count"),
        ),
        "cache_read",
    ),
    **dict.fromkeys(
        ("cache_creation_input_tokens", "cacheWriteInputTokens", "cacheWriteInputTokenCount"),
        "cache_write",
    ),
}
"""What any source calls its cache: such a count is in the price of its call, or beside it."""


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
    unbilled: frozenset[str] = frozenset()
    """Names of cache counts that change nothing of the bill."""
    count_steps: Reading[Count] = field(init=False, repr=False, compare=False)
    """`counts`, as an object of so many names is read."""
    unit_steps: Reading[str] = field(init=False, repr=False, compare=False)
    """`units`, as such an object is read."""
    strange: frozenset[str] = field(init=False, repr=False, compare=False)
    """Names of cache counts that this convention does not have."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "count_steps", Reading(self.counts))
        object.__setattr__(self, "unit_steps", Reading(self.units))
        known = {path.partition("/")[0] for paths in self.counts.values() for path in paths}
        object.__setattr__(self, "strange", frozenset(CACHE_NAMES) - known - self.unbilled)


class Reading(Generic[_Known]):
    """Names by what they count, taken apart, and for an object only those that it has.

    A layout knows dozens of names and an object has few of them: which, is worked out once for all
    objects that have the same. What is remembered is made of the layout's own names only.
    """

    def __init__(self, names: Mapping[_Known, Paths]) -> None:
        self._all: tuple[tuple[_Known, Names], ...] = tuple(
            (known, tuple((path, tuple(path.split("/"))) for path in paths))
            for known, paths in names.items()
        )
        self._firsts = frozenset(steps[0] for _, paths in self._all for _, steps in paths)
        self._of = lru_cache(_KEPT_READINGS)(self._only)

    def of(self, raw: Mapping[str, object]) -> tuple[tuple[_Known, Names], ...]:
        """What an object may count, in the layout's order."""
        return self._of(self._firsts.intersection(raw)) if self._all else ()

    def _only(self, present: frozenset[str]) -> tuple[tuple[_Known, Names], ...]:
        found = ((known, tuple(_having(paths, present))) for known, paths in self._all)
        return tuple((known, paths) for known, paths in found if paths)


def _having(names: Names, present: frozenset[str]) -> Iterable[tuple[str, tuple[str, ...]]]:
    return (name for name in names if name[1][0] in present)
