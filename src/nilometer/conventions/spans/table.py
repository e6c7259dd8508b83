"""The table: every convention's rows in order of precedence, and the index made of them.

For one property the first row that gives a value wins; within a row the first source. Explicit
names come first, then OpenTelemetry's own, then what clients say in names of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nilometer.conventions.spans import (
    coding_agents,
    genai,
    langfuse,
    litellm_spans,
    openinference,
    openllmetry,
    posthog,
    pydantic_ai,
    vercel,
)
from nilometer.conventions.spans.row import Convention, Kinds, Row

CONVENTIONS: tuple[Convention, ...] = (
    posthog.CONVENTION,
    vercel.CONVENTION,
    genai.CONVENTION,
    litellm_spans.CONVENTION,
    pydantic_ai.CONVENTION,
    openllmetry.CONVENTION,
    openinference.CONVENTION,
    langfuse.CONVENTION,
)
"""Every convention, in order of precedence."""

DETECTION: tuple[Convention, ...] = (
    coding_agents.CONVENTION,
    vercel.CONVENTION,
    pydantic_ai.CONVENTION,
    langfuse.CONVENTION,
    openinference.CONVENTION,
    litellm_spans.CONVENTION,
    openllmetry.CONVENTION,
    genai.CONVENTION,
    posthog.CONVENTION,
)
"""In which order a span's convention is looked for: the most particular first."""

KINDS: tuple[Kinds, ...] = (
    *vercel.CONVENTION.kinds,
    *langfuse.CONVENTION.kinds,
    *openinference.CONVENTION.kinds,
    *genai.CONVENTION.kinds,
    *openllmetry.CONVENTION.kinds,
)
"""Which attribute decides what a span is: the first that it has."""

ROWS: tuple[Row, ...] = tuple(row for convention in CONVENTIONS for row in convention.rows)


@dataclass(frozen=True, slots=True)
class Entry:
    """One source of one row: `rank` orders all of the table; `member` is a path in the value.

    `piece` is where in the object that a builder gets the value goes.
    """

    rank: int
    row: Row
    member: tuple[str, ...] = ()
    piece: str = ""


def _index() -> tuple[dict[str, tuple[Entry, ...]], dict[str, tuple[Row, int, bool]]]:
    exact: dict[str, list[Entry]] = {}
    prefixes: dict[str, tuple[Row, int, bool]] = {}
    rank = 0
    for row in ROWS:
        rank += 1
        for source in row.sources:
            rank += not row.build  # the pieces of one value have one rank
            name, _, member = source.partition("#")
            if name.endswith(".*"):
                indexed = name.endswith(".N.*")
                prefixes[name[: -3 if indexed else -1]] = (row, rank, indexed)
                continue
            path = tuple(member.split(".")) if member else ()
            piece = name.rpartition(".")[2] if row.build else ""
            exact.setdefault(name, []).append(Entry(rank, row, path, piece))
    return {name: tuple(entries) for name, entries in exact.items()}, prefixes


_EXACT, _PREFIXES = _index()

EXACT: Mapping[str, tuple[Entry, ...]] = _EXACT
"""Where each attribute name stands in the table."""
PREFIXES: Mapping[str, tuple[Row, int, bool]] = _PREFIXES
"""Rows by the start of their attributes' names, with the rank, and whether an index follows."""
STEMS: tuple[str, ...] = tuple(PREFIXES)
