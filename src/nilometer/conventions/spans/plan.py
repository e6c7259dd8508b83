"""What the table makes of a set of attribute names, worked out once for spans that share it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from nilometer.conventions.litellm_secrets import is_secret_attribute
from nilometer.conventions.spans import flat, litellm_spans
from nilometer.conventions.spans.row import Convention, Kinds, Row
from nilometer.conventions.spans.table import DETECTION, EXACT, KINDS, PREFIXES, STEMS

_KEPT_PLANS = 512
_KEPT_NAMES = 128
_KEPT_CHARS = 8192


@dataclass(frozen=True, slots=True)
class Source:
    """Where a row finds a value: `member` is the path to it in the attribute `name`.

    A flattened list has no name of its own, but `pieces`: (path, attribute) pairs. `parameter` is
    the name of the one of the model's parameters that this gives, None when it is no parameter.
    """

    rank: int
    row: Row
    name: str
    member: tuple[str, ...] = ()
    pieces: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    parameter: str | None = None

    @property
    def names(self) -> Iterable[str]:
        """The attributes that it is read from."""
        return [name for _, name in self.pieces] or (self.name,)


@dataclass(frozen=True, slots=True)
class Plan:
    """What follows from names alone.

    `sources` are what the table knows, the best first; `counts` those of them that count tokens.
    `explicit` are properties that the client named itself (`$…`), `others` all further names
    without the secret ones, which are `secrets`. `kinds` are the attributes that decide what the
    span is. `spoken` is the convention that the names give away, None when none of them is of AI.
    """

    sources: tuple[Source, ...]
    counts: tuple[Source, ...]
    explicit: tuple[str, ...]
    others: tuple[str, ...]
    secrets: frozenset[str]
    kinds: tuple[Kinds, ...]
    spoken: Convention | None


def plan_of(attributes: Mapping[str, Any]) -> Plan:
    """The plan for a span's attributes; kept when their names are few enough to come again."""
    names = tuple(attributes)
    if len(names) <= _KEPT_NAMES and sum(map(len, names)) <= _KEPT_CHARS:
        return _kept_plan(names)
    return _plan(names)


def _plan(names: tuple[str, ...]) -> Plan:
    sources = tuple(_sources(names))
    return Plan(
        sources=sources,
        counts=tuple(source for source in sources if source.row.usage),
        explicit=tuple(name for name in names if name.startswith("$")),
        others=tuple(
            name for name in names if not name.startswith("$") and not is_secret_attribute(name)
        ),
        secrets=frozenset(filter(is_secret_attribute, names)),
        kinds=tuple(kinds for kinds in KINDS if kinds.attribute in names),
        spoken=_spoken(names),
    )


_kept_plan = lru_cache(_KEPT_PLANS)(_plan)


def _sources(names: tuple[str, ...]) -> list[Source]:
    found: list[Source] = []
    lists: dict[int, Source] = {}
    means = litellm_spans.PHOENIX_MEANS if litellm_spans.PHOENIX_MARK in names else {}
    for name in names:
        entries = EXACT.get(means.get(name, name))
        if entries is None:
            if name.startswith(STEMS):
                _add_by_stem(name, found, lists)
            continue
        for entry in entries:
            if entry.piece:
                _add_piece(lists, entry.rank, entry.row, (entry.piece, name))
            else:
                parameter = name.rpartition(".")[2] if entry.row.target.endswith(".*") else None
                found.append(Source(entry.rank, entry.row, name, entry.member, parameter=parameter))
    return sorted([*found, *lists.values()], key=_rank)


def _rank(source: Source) -> int:
    return source.rank


def _add_by_stem(name: str, found: list[Source], lists: dict[int, Source]) -> None:
    stem = next(stem for stem in STEMS if name.startswith(stem))
    row, rank, indexed = PREFIXES[stem]
    path = name[len(stem) :]
    if not indexed:
        found.append(Source(rank, row, name, parameter=path))
    elif flat.is_index(path.partition(".")[0]):
        _add_piece(lists, rank, row, (path, name))


def _add_piece(lists: dict[int, Source], rank: int, row: Row, piece: tuple[str, str]) -> None:
    if rank not in lists:
        lists[rank] = Source(rank, row, "")
    lists[rank].pieces.append(piece)


def _spoken(names: tuple[str, ...]) -> Convention | None:
    heads = {name.partition(".")[0] for name in names}
    for convention in DETECTION:
        if not heads.isdisjoint(convention.heads):
            return convention
    return DETECTION[-1] if any(head.startswith("$ai_") for head in heads) else None
