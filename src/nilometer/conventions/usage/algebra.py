"""From counts that contain each other to disjoint buckets, or the reason why there are none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from operator import attrgetter

from nilometer.conventions.typed_values import MAX_INT64
from nilometer.conventions.usage.counts import Counts, Unusable
from nilometer.conventions.usage.layout import INPUT_PARTS, OUTPUT_PARTS, Beside, Count
from nilometer.domain.usage import TokenVector

_CACHED_MODALITIES: tuple[tuple[Count, Count], ...] = (
    ("audio_input", "audio_cache_read"),
    ("image_input", "image_cache_read"),
    ("video_input", "video_cache_read"),
)


@dataclass(slots=True)
class _Parts:
    """Disjoint parts of both sides, without the text that remains."""

    cache_read: int
    cache_write_5m: int
    cache_write_1h: int
    audio_input: int
    audio_cache_read: int
    image_input: int
    video_input: int
    reasoning: int
    audio_output: int
    image_output: int

    def of(self, names: Beside) -> int:
        """The sum of some parts: cached audio is a cache read, and writes are one part."""
        return sum([_PART[name](self) for name in names]) if self is not _NOTHING else 0


_PART: Mapping[str, Callable[[_Parts], int]] = {
    **{name: attrgetter(name) for name in (*INPUT_PARTS, *OUTPUT_PARTS)},
    "cache_read": lambda parts: parts.cache_read + parts.audio_cache_read,
    "cache_write": lambda parts: parts.cache_write_5m + parts.cache_write_1h,
}
_NAMES = tuple(each.name for each in fields(_Parts))
_BUCKETS = attrgetter(*_NAMES)
_NOTHING = _Parts(*([0] * len(_NAMES)))
_SIDES = frozenset[Count](("input", "output", "total", "uncached", "tool_input"))


def solve(
    counts: Counts, beside: Beside, or_beside: tuple[Beside, ...] = (), *, embedding: bool = False
) -> TokenVector:
    """The vector that the counts give under the first reading that the total allows.

    A reading is the set of parts that their side does not contain. The reported total decides: the
    one that adds up to it wins, `beside` before the others. A total that is only the two sides'
    own counts (it leaves out what stands beside them) agrees with `beside`. A side that is not
    reported is the total less the other; of an embedding it is 0.

    Raises Unusable with `not_reported`, `input_not_reported`, `output_not_reported`,
    `negative_remainder`, `contradictory_total`, `contradictory_counts:…` or `too_large`.
    """
    parts = _disjoint(counts)
    sides = _sides(counts, parts, beside, embedding=embedding)
    reading = _reading(counts, sides, parts, (beside, *or_beside))
    return _vector(counts, sides, parts, reading)


def _disjoint(counts: Counts) -> _Parts:
    """Take the modalities' cached tokens out of the cache reads and of the modalities."""
    if {name for name, number in counts.items() if number} <= _SIDES:
        return _NOTHING
    cached: dict[Count, int] = {name: counts.get(kept, 0) for name, kept in _CACHED_MODALITIES}
    fresh = {name: _less(counts.get(name) or known, known) for name, known in cached.items()}
    reads = counts.get("cache_read") or sum(cached.values())
    _less(reads, sum(cached.values()))
    short, long = _writes(counts)
    return _Parts(
        cache_read=reads - cached["audio_input"],
        cache_write_5m=short,
        cache_write_1h=long,
        audio_input=fresh["audio_input"],
        audio_cache_read=cached["audio_input"],
        image_input=fresh["image_input"],
        video_input=fresh["video_input"],
        reasoning=counts.get("reasoning", 0),
        audio_output=counts.get("audio_output", 0),
        image_output=counts.get("image_output", 0),
    )


def _writes(counts: Counts) -> tuple[int, int]:
    """Cache writes by duration; what has none is the provider's default, the short one."""
    short, long = counts.get("cache_write_5m", 0), counts.get("cache_write_1h", 0)
    all_writes = counts.get("cache_write") or short + long
    if short + long > all_writes:
        raise Unusable("contradictory_counts:cache_write")
    return all_writes - long, long


def _sides(counts: Counts, parts: _Parts, beside: Beside, *, embedding: bool) -> tuple[int, int]:
    """Each side's own count, an unreported one derived."""
    given, total = (counts.get("input"), counts.get("output")), counts.get("total")
    match given:
        case (int() as entered, int() as left):
            return entered, left
        case (None, None) if embedding and total:
            return total, 0
        case (None, None):
            raise Unusable("not_reported")
        case (int() as entered, None):
            rest = _rest(total, entered, parts, beside)
            return entered, _known(0 if rest is None and embedding else rest, "output")
        case (_, left):
            return _known(_rest(total, left or 0, parts, beside), "input"), left or 0


def _rest(total: int | None, side: int, parts: _Parts, beside: Beside) -> int | None:
    return None if not total else _less(total, side + parts.of(beside), "contradictory_total")


def _known(side: int | None, name: str) -> int:
    if side is None:
        raise Unusable(f"{name}_not_reported")
    return side


def _reading(
    counts: Counts, sides: tuple[int, int], parts: _Parts, readings: tuple[Beside, ...]
) -> Beside:
    total, own = counts.get("total"), sum(sides)
    tools = counts.get("tool_input", 0)
    if not total:
        return readings[0]
    for reading in readings:
        if total == own + tools + parts.of(reading):
            return reading
    if total in (own, own + tools):
        return readings[0]
    raise Unusable("contradictory_total")


def _vector(counts: Counts, sides: tuple[int, int], parts: _Parts, beside: Beside) -> TokenVector:
    entered, left = sides
    fresh = _less(entered, parts.of(INPUT_PARTS - beside))
    if "uncached" in counts and counts["uncached"] != fresh:
        raise Unusable("contradictory_counts:uncached")
    vector = TokenVector(
        uncached_input=fresh + counts.get("tool_input", 0),
        text_output=_less(left, parts.of(OUTPUT_PARTS - beside)),
        **(dict(zip(_NAMES, _BUCKETS(parts), strict=True)) if parts is not _NOTHING else {}),
    )
    total = vector.total
    if total > MAX_INT64:
        raise Unusable("too_large")
    if not total:
        raise Unusable("not_reported")
    return vector


def _less(whole: int, part: int, reason: str = "negative_remainder") -> int:
    if part > whole:
        raise Unusable(reason)
    return whole - part
