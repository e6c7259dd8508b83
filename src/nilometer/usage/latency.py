"""Distributions of latency that add up: counts by bucket, the same buckets on every host.

A bucket holds the latencies whose whole microseconds agree in their first six binary digits, so it
is at most a 32nd of its value wide, and its middle is within 1.6% of any of them. Only whole
numbers decide, so that SQL and Python choose the same one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

PERCENTILES = (0.5, 0.9, 0.95, 0.99)
DIGITS = 6
MAX_MICROS = (1 << 40) - 1
"""12 days. What takes longer counts as this."""


def bucket(seconds: float) -> int:
    """The bucket of a latency: the least microseconds in it."""
    micros = min(round(seconds * 1e6), MAX_MICROS)
    dropped = max(micros.bit_length() - DIGITS, 0)
    return micros >> dropped << dropped


def place(least: int) -> int:
    """The place of the bucket that begins here among all, from 0."""
    dropped = max(least.bit_length() - DIGITS, 0)
    return (dropped << DIGITS - 1) + (least >> dropped)


def at(place: int) -> int:
    """The least microseconds of the bucket at this place."""
    dropped = max((place >> DIGITS - 1) - 1, 0)
    return place - (dropped << DIGITS - 1) << dropped


def middle(least: int) -> float:
    """The middle of the bucket that begins here, in seconds."""
    dropped = max(least.bit_length() - DIGITS, 0)
    return (least + (1 << dropped >> 1)) / 1e6


def percentiles(counts: Mapping[int, int]) -> list[int]:
    """The buckets of the `PERCENTILES`: of n latencies in order, the one with p * n before it."""
    total = sum(counts.values())
    places = [int(share * total) for share in PERCENTILES]
    return list(_at(sorted(counts.items()), places))


def _at(ordered: Iterable[tuple[int, int]], places: list[int]) -> Iterable[int]:
    """The buckets at these places, least first."""
    passed, wanted = 0, iter(places)
    place = next(wanted, None)
    for least, count in ordered:
        passed += count
        while place is not None and place < passed:
            yield least
            place = next(wanted, None)
