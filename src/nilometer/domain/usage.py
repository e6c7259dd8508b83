"""What a call consumed: the token vector and other units, whatever the source's habit of counting.

Providers count the same call in ways that cannot be added up: OpenAI's input includes cached
tokens, Anthropic's does not; reasoning is inside output here and beside it there. An adapter a
convention (`nilometer.conventions.usage`) turns each into this one vector, or says why it cannot.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from operator import attrgetter
from typing import Any

INPUT_BUCKETS = (
    *("uncached_input", "cache_read", "cache_write_5m", "cache_write_1h"),
    *("audio_input", "audio_cache_read", "image_input", "video_input"),
)
OUTPUT_BUCKETS = ("text_output", "reasoning", "audio_output", "image_output")
_BUCKETS = (*INPUT_BUCKETS, *OUTPUT_BUCKETS)
_COUNTS = attrgetter(*_BUCKETS)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenVector:
    """Tokens of one call, in disjoint buckets; the totals include every bucket.

    `uncached_input` is fresh text. `cache_read`, `cache_write_5m` and `cache_write_1h` are text
    (and whatever the source does not tell apart) read from and written to the provider's cache; a
    write whose duration the source does not say is the provider's default one, the shorter. (OpenAI
    keeps 30 minutes or 12 hours: those are in the 5-minute and the 1-hour bucket.) `text_output` is
    output that is none of the others. A bucket that the source does not know is 0: its tokens are
    in the text bucket then.
    """

    uncached_input: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    audio_input: int = 0
    audio_cache_read: int = 0
    image_input: int = 0
    video_input: int = 0
    text_output: int = 0
    reasoning: int = 0
    audio_output: int = 0
    image_output: int = 0

    def __post_init__(self) -> None:
        counts = self.counts
        if {*map(type, counts)} == {int} and min(counts) >= 0:
            return
        for name, value in zip(_BUCKETS, counts, strict=True):
            if type(value) is not int or value < 0:
                raise ValueError(f"{name} must be a whole number of tokens, 0 or more")

    @property
    def counts(self) -> tuple[int, ...]:
        """Every bucket, in the order of INPUT_BUCKETS and OUTPUT_BUCKETS."""
        return _COUNTS(self)

    @property
    def input(self) -> int:
        """All input, cached or not."""
        return sum(self.counts[: len(INPUT_BUCKETS)])

    @property
    def output(self) -> int:
        """All output, reasoning included."""
        return sum(self.counts[len(INPUT_BUCKETS) :])

    @property
    def total(self) -> int:
        """Input and output."""
        return sum(self.counts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a call consumed, and how we know.

    `vector` is None when the source says nothing usable; `reason` is then a code such as
    `not_reported` or `negative_remainder`, else "". `convention` names the adapter that read it.
    `units` counts what is not tokens (`web_searches`, `images`, `audio_seconds`, `characters`,
    `requests` …). `raw` is the source's own object, for reading it again.
    """

    vector: TokenVector | None
    convention: str
    reason: str = ""
    units: Mapping[str, Decimal] = field(default_factory=dict[str, Decimal])
    raw: Mapping[str, Any] = field(default_factory=dict[str, Any])
