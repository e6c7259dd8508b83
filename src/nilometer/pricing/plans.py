"""How a name is priced at any moment: which override holds when, and else the book.

The order, first to last: the project's overrides, the operator's, the file's, then the book. Within
each: an override of the name as sent before one of the model that the book resolves it to, one of
this region before one of every region, one of this tier before one of `any`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal

from nilometer.pricing import names
from nilometer.pricing.book import SOURCE, Book
from nilometer.pricing.overrides import Override, Overrides
from nilometer.pricing.rates import Rates, UnitRate, by_bucket
from nilometer.pricing.resolving import Resolved, Unresolved, resolve
from nilometer.pricing.schedule import Schedule
from nilometer.pricing.tiers import ANY, TIERS

# Anthropic's models since 4.5 cost a tenth more at regional endpoints of Vertex AI than at the
# global one, and those since 4.6 where inference is kept in a country; the book has global prices.
# https://cloud.google.com/vertex-ai/generative-ai/pricing,
# https://platform.claude.com/docs/en/about-claude/pricing
_NOWHERE = frozenset({"", "global", "not_available"})
_SAME_EVERYWHERE = (
    *("claude-v1", "claude-2", "claude-3", "claude-4-opus", "claude-4-sonnet"),
    *("claude-opus-4-0", "claude-opus-4-1", "claude-sonnet-4-0"),
)


@dataclass(frozen=True, slots=True)
class Quote:
    """A price of a model at a moment, `rates` None and a reason where there is none."""

    rates: Rates | None
    reason: str = ""
    source: str = ""
    version: str = ""
    as_of: date | None = None
    provider: str | None = None
    model: str | None = None
    how: str = ""
    deprecated: bool = False


class Plan:
    """The quotes of one name in one tier and region, over time."""

    def __init__(
        self, choices: list[tuple[Override, Quote | Plan]], book: BookPlan | Quote
    ) -> None:
        self._choices = choices
        self._book = book

    def at(self, moment: datetime) -> Quote:
        """The quote at an aware moment."""
        for override, outcome in self._choices:
            if override.active(moment):
                if isinstance(outcome, Quote):
                    return outcome
                quote = outcome.at(moment)
                return replace(quote, how=f"alias:{override.id} {quote.how}".rstrip())
        return self._book if isinstance(self._book, Quote) else self._book.at(moment)


class BookPlan:
    """The quotes of one model of the book in one tier."""

    def __init__(self, book: Book, resolved: Resolved, tier: str) -> None:
        self._schedule = Schedule(resolved.entry, tier)
        self._unpriced = Quote(
            None,
            version=book.version,
            provider=resolved.provider,
            model=resolved.model,
            how=resolved.how,
            deprecated=resolved.deprecated,
        )
        self._last: tuple[object, Quote] = (None, self._unpriced)

    def at(self, moment: datetime) -> Quote:
        """The quote at an aware moment."""
        dated = self._schedule.at(moment)
        last, quote = self._last
        if dated is last:
            return quote
        if isinstance(dated, str):
            return replace(self._unpriced, reason=dated)
        quote = replace(self._unpriced, rates=dated.rates, as_of=dated.as_of, source=SOURCE)
        self._last = (dated, quote)
        return quote


def make_plan(
    book: Book,
    overrides: Overrides,
    provider: str | None,
    model: str | None,
    tier: str,
    region: str,
) -> Plan:
    """The plan for a name, as a source sent it."""
    tier = names.normalized(tier)
    sold_as = TIERS.get(tier, tier)
    region = names.normalized(region)
    resolved = resolve(provider, model, book=book)
    listed = _listed(book, resolved, sold_as, region)
    if not overrides.entries:
        return Plan([], listed)
    chosen = _chosen(book, overrides, provider, model, resolved)
    meant = [
        override
        for override in chosen
        if override.tier in (sold_as, ANY) and override.region in ("", region)
    ]
    prices_only = Overrides(each for each in overrides.entries if each.alias is None)
    return Plan([(each, _outcome(each, book, prices_only, tier, region)) for each in meant], listed)


def _listed(
    book: Book, resolved: Resolved | Unresolved, tier: str, region: str
) -> BookPlan | Quote:
    if isinstance(resolved, Unresolved):
        return Quote(None, resolved.reason, version=book.version, provider=resolved.provider)
    if region not in _NOWHERE and _costs_more_there(resolved):
        return Quote(
            None,
            f"region_unpriced:{region}",
            version=book.version,
            provider=resolved.provider,
            model=resolved.model,
            how=resolved.how,
        )
    return BookPlan(book, resolved, tier)


def _costs_more_there(resolved: Resolved) -> bool:
    return (
        resolved.provider in ("anthropic", "google")
        and resolved.model.startswith("claude-")
        and not resolved.model.startswith(_SAME_EVERYWHERE)
    )


def _chosen(
    book: Book,
    overrides: Overrides,
    provider: str | None,
    model: str | None,
    resolved: Resolved | Unresolved,
) -> list[Override]:
    sent = [
        override
        for each_provider, each_model in _as_sent(book, provider, model)
        for override in overrides.named(each_provider, each_model)
    ]
    known = (
        overrides.named(resolved.provider, resolved.model) if isinstance(resolved, Resolved) else []
    )
    ranked = {id(each): (1, each) for each in known} | {id(each): (0, each) for each in sent}
    in_order = sorted(
        ranked.values(),
        key=lambda each: (each[1].scope, each[0], each[1].region == "", each[1].tier == ANY),
    )
    return [override for _, override in in_order]


def _as_sent(book: Book, provider: str | None, model: str | None) -> Iterable[tuple[str, str]]:
    at, name = names.normalized(provider or ""), names.normalized(model or "")
    if max(len(at), len(name)) > names.LONGEST_NAME:
        return []
    if not at or at in names.GATEWAYS:
        at, name = names.split_prefix(name)
        if at in names.GATEWAYS:
            at, name = names.split_prefix(name)
    known = book.provider(at) or names.PROVIDERS.get(at, at)
    return [(known, spelling) for spelling in dict.fromkeys(names.spellings(known, name))]


def _outcome(
    override: Override, book: Book, overrides: Overrides, tier: str, region: str
) -> Quote | Plan:
    if override.alias is not None:
        provider, model = override.alias
        return make_plan(book, overrides, provider, model, tier, region)
    return Quote(
        Rates(
            ((0, by_bucket(_filled(override))),),
            {unit: UnitRate(price) for unit, price in override.per_unit.items()},
        ),
        source=f"override:{override.id}",
        as_of=override.effective_from.date(),
        provider=override.provider,
        model=override.model,
        how="override",
    )


def _filled(override: Override) -> dict[str, Decimal]:
    prices = dict(override.per_million_tokens)
    for bucket, general in (
        ("reasoning", "text_output"),
        ("image_input", "uncached_input"),
        ("video_input", "uncached_input"),
    ):
        if general in prices:
            prices.setdefault(bucket, prices[general])
    return prices


def priced_by(
    provider: str | None, model: str | None, overrides: Overrides, book: Book, moment: datetime
) -> Quote:
    """What would price a standard call of a name at an aware moment, or the reason why nothing."""
    return make_plan(book, overrides, provider, model, "", "").at(moment)
