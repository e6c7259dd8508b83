"""Operators' own prices, and what their deployments are: an argument of every price.

An override is dated, of one project or of all, and says either what a model costs or which model a
name stands for. It replaces the book's price whole: a bucket that it leaves out is unpriced, so
that a negotiated price and a list price never mix.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import IntEnum
from itertools import pairwise

from nilometer.domain.usage import INPUT_BUCKETS, OUTPUT_BUCKETS
from nilometer.errors import InvalidInput
from nilometer.pricing.names import LONGEST_NAME, PROVIDERS, normalized, split_prefix
from nilometer.pricing.tiers import ANY, STANDARD, TIERS

BUCKETS = (*INPUT_BUCKETS, *OUTPUT_BUCKETS)
LARGEST_PRICE = Decimal(10_000_000)
"""Dollars for a million tokens, or for ten thousandths of a unit: more is a slip of the pen."""

_UNIT = re.compile(r"[a-z][a-z0-9_]{0,63}")
_MONEY = re.compile(r"\d{1,12}(?:\.\d{1,12})?")


class Scope(IntEnum):
    """Whose override it is; the least goes first."""

    PROJECT = 0
    OPERATOR = 1
    FILE = 2


@dataclass(frozen=True, slots=True)
class Override:
    """One entry. Dates are aware; `effective_to` is not included, None has no end.

    `per_million_tokens` has dollars by bucket of the token vector, `per_unit` dollars by unit.
    `alias` is (provider, model) of the book instead. `region` "" is for every region; `tier` is a
    tier's name, or `any`. Make one with `made`, which checks it.
    """

    id: str
    provider: str
    model: str
    effective_from: datetime
    effective_to: datetime | None = None
    per_million_tokens: Mapping[str, Decimal] = field(default_factory=dict[str, Decimal])
    per_unit: Mapping[str, Decimal] = field(default_factory=dict[str, Decimal])
    alias: tuple[str, str] | None = None
    region: str = ""
    tier: str = STANDARD
    project_id: int | None = None
    scope: Scope = Scope.PROJECT

    def active(self, at: datetime) -> bool:
        """Whether it holds at a moment."""
        return self.effective_from <= at and (self.effective_to is None or at < self.effective_to)

    @property
    def key(self) -> tuple[object, ...]:
        """What two overrides with overlapping dates must not have in common."""
        return (self.scope, self.project_id, self.provider, self.model, self.region, self.tier)


class Overrides:
    """The overrides that hold for one project: its own, the operator's and the file's.

    Immutable; two are never equal, so that a plan made with one is never used with another.
    """

    __slots__ = ("_by_name", "entries")

    def __init__(self, entries: Iterable[Override] = ()) -> None:
        self.entries = tuple(entries)
        self._by_name: dict[tuple[str, str], list[Override]] = {}
        for entry in self.entries:
            self._by_name.setdefault((entry.provider, entry.model), []).append(entry)

    def named(self, provider: str, model: str) -> list[Override]:
        """Those for exactly this provider and model."""
        return self._by_name.get((provider, model), [])

    def for_project(self, project_id: int) -> Overrides:
        """Those that hold for a project."""
        return Overrides(e for e in self.entries if e.project_id in (None, project_id))


NO_OVERRIDES = Overrides()


def made(
    *,
    id: str,  # noqa: A002 - the field's name
    provider: str,
    model: str,
    effective_from: datetime,
    effective_to: datetime | None = None,
    per_million_tokens: Mapping[str, object] | None = None,
    per_unit: Mapping[str, object] | None = None,
    alias: str | None = None,
    region: str = "",
    tier: str = STANDARD,
    project_id: int | None = None,
    scope: Scope = Scope.PROJECT,
) -> Override:
    """A checked override, its names normalized. Prices are decimal text; `alias` is
    `provider/model`. Raises InvalidInput, which says what to change."""
    tokens = {
        bucket: money(price, f"per_million_tokens.{bucket}")
        for bucket, price in (per_million_tokens or {}).items()
        if _known_bucket(bucket)
    }
    units = {
        _unit(unit): money(price, f"per_unit.{unit}") for unit, price in (per_unit or {}).items()
    }
    if bool(tokens or units) == bool(alias):
        raise InvalidInput(
            "Give prices (per_million_tokens, per_unit) or an alias, one of the two.", attr="alias"
        )
    _check_dates(effective_from, effective_to)
    return Override(
        id=id,
        provider=_provider(provider),
        model=_named(model, "model"),
        effective_from=effective_from,
        effective_to=effective_to,
        per_million_tokens=tokens,
        per_unit=units,
        alias=_target(alias) if alias else None,
        region=normalized(region),
        tier=_tier(tier),
        project_id=project_id,
        scope=scope,
    )


def money(value: object, attr: str) -> Decimal:
    """Dollars from decimal text, exactly. Raises InvalidInput for all else, numbers included."""
    if not isinstance(value, str):
        raise InvalidInput(
            f'{attr} must be text, such as "2.50": a number loses digits on its way.', attr=attr
        )
    if not _MONEY.fullmatch(value):
        raise InvalidInput(
            f"{attr} must be a price in dollars, 0 or more, without a sign or an exponent and with "
            "at most 12 digits after the point.",
            attr=attr,
        )
    price = Decimal(value)
    largest = LARGEST_PRICE if attr.startswith("per_million") else LARGEST_PRICE / 1000
    if price > largest:
        raise InvalidInput(f"{attr} must be at most {largest} dollars.", attr=attr)
    return price


def check_overlaps(entries: Iterable[Override]) -> None:
    """Raises InvalidInput where two overrides say different things about the same moment."""
    groups: dict[tuple[object, ...], list[Override]] = {}
    for entry in entries:
        groups.setdefault(entry.key, []).append(entry)
    for group in groups.values():
        group.sort(key=lambda each: each.effective_from)
        for before, after in pairwise(group):
            if before.effective_to is None or after.effective_from < before.effective_to:
                raise InvalidInput(
                    f"{after.id} overlaps {before.id}: both are of {after.provider}/{after.model}. "
                    f"End {before.id} with effective_to no later than "
                    f"{after.effective_from.isoformat()}, or begin {after.id} later.",
                    code="overlapping_override",
                    attr="effective_from",
                )


def _known_bucket(bucket: str) -> bool:
    if bucket not in BUCKETS:
        raise InvalidInput(
            f"per_million_tokens.{bucket} is no token bucket; use one of {', '.join(BUCKETS)}.",
            attr="per_million_tokens",
        )
    return True


def _unit(unit: str) -> str:
    if not _UNIT.fullmatch(unit) or unit in BUCKETS:
        raise InvalidInput(
            f"per_unit.{unit} must be a unit's name in lower case, such as web_searches, and no "
            "token bucket.",
            attr="per_unit",
        )
    return unit


def _named(name: str, attr: str) -> str:
    name = normalized(name)
    if not name or len(name) > LONGEST_NAME:
        raise InvalidInput(f"{attr} must have 1 to {LONGEST_NAME} characters.", attr=attr)
    return name


def _provider(name: str) -> str:
    name = _named(name, "provider")
    return PROVIDERS.get(name, name)


def _target(alias: str) -> tuple[str, str]:
    provider, model = split_prefix(normalized(alias))
    if not provider:
        raise InvalidInput(
            "alias must be provider/model, such as openai/gpt-4o-2024-08-06.", attr="alias"
        )
    return _provider(provider), _named(model, "alias")


def _tier(tier: str) -> str:
    tier = normalized(tier)
    if tier == ANY:
        return ANY
    if tier not in TIERS:
        raise InvalidInput(f"tier must be any or one of {', '.join(sorted(TIERS))}.", attr="tier")
    return TIERS[tier]


def _check_dates(start: datetime, end: datetime | None) -> None:
    for attr, moment in (("effective_from", start), ("effective_to", end)):
        if moment is not None and moment.utcoffset() is None:
            raise InvalidInput(f"{attr} needs a time zone, such as Z at its end.", attr=attr)
    if end is not None and end <= start:
        raise InvalidInput("effective_to must be later than effective_from.", attr="effective_to")
