"""The price book: genai-prices' data, found by exact names only.

https://github.com/pydantic/genai-prices, MIT. The package is imported when the first book is made,
because it takes about a second and what never prices need not have it.
"""

from __future__ import annotations

import difflib
import os
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version as installed_version
from typing import TYPE_CHECKING

from nilometer.pricing.matching import EXACT, Rules, rules_of
from nilometer.pricing.names import PROVIDERS, bases, is_fine_tune

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, Provider

SOURCE = "genai-prices"


@dataclass(frozen=True, slots=True)
class Entry:
    """A model of the book. `own` is False for one that a provider resells at its maker's price."""

    provider: str
    model: ModelInfo
    own: bool = True


@dataclass(frozen=True, slots=True)
class Found:
    """The model that a name means; `how` is EXACT or SNAPSHOT."""

    entry: Entry
    how: str


class Ambiguous(LookupError):
    """Two models with different prices are meant equally well."""


class Book:
    """One edition of the prices. Immutable and safe between threads.

    `version` is stored with every price: the package's, and where prices were refreshed from the
    network also which.
    """

    def __init__(self, providers: Iterable[Provider], version: str) -> None:
        self.version = version
        self._providers = {provider.id: provider for provider in providers}
        self._rules = {
            provider.id: [(model, rules_of(model)) for model in provider.models]
            for provider in self._providers.values()
        }

    def provider(self, name: str) -> str | None:
        """The id of the provider that a normalized name stands for."""
        known = PROVIDERS.get(name, name)
        return known if known in self._providers else None

    def find(self, provider: str, name: str) -> Found | None:
        """The model of a provider that a normalized name means, or of those that it resells.

        Raises Ambiguous.
        """
        if found := self._at(provider, name, provider):
            return found
        for maker in self._providers[provider].fallback_model_providers or ():
            if found := self._at(maker, name, provider):
                return Found(Entry(provider, found.entry.model, own=False), found.how)
        return None

    def names(self, provider: str | None = None) -> list[str]:
        """Model ids, of one provider or as `provider/model` of all."""
        if provider is not None:
            return [model.id for model in self._providers[provider].models]
        return [
            f"{each.id}/{model.id}" for each in self._providers.values() for model in each.models
        ]

    def providers(self) -> list[str]:
        """The ids of all providers."""
        return list(self._providers)

    def nearest(self, provider: str | None, name: str, count: int = 3) -> list[str]:
        """Known names most like an unknown one, the likest first: to show, never to price by."""
        known = self.names(provider)
        if provider is not None:
            makers = self._providers[provider].fallback_model_providers or ()
            known += [each for maker in makers for each in self.names(maker)]
        return difflib.get_close_matches(name, known, n=count, cutoff=0.6)

    def _at(self, provider: str, name: str, spelled_for: str) -> Found | None:
        name_bases = bases(spelled_for, name)
        meant = [
            (length, how == EXACT, model)
            for model, rules in self._rules.get(provider, ())
            if (at := _meant(model, rules, name, name_bases))
            for length, how in [at]
        ]
        if not meant:
            return None
        meant.sort(key=lambda each: (each[1], each[0]), reverse=True)
        length, exact, model = meant[0]
        if any((n, e) == (length, exact) and m.prices != model.prices for n, e, m in meant[1:]):
            raise Ambiguous(name)
        return Found(Entry(provider, model), "exact" if exact else "snapshot")


def _meant(
    model: ModelInfo, rules: Rules, name: str, name_bases: Sequence[str]
) -> tuple[int, str] | None:
    if name == model.id.lower():
        return len(name), EXACT
    if not model.is_match(name) or (is_fine_tune(name) and "ft" not in model.id):
        return None
    return rules.longest(name, list(name_bases))


@cache
def bundled() -> Book:
    """The edition that came with the installed package."""
    from genai_prices.data import providers

    return Book(providers, f"{SOURCE} {installed_version(SOURCE)}")


class _Current:
    """The book in use, replaced whole by a refresh."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a signal's handler may price, on a thread that loads
        self._book: Book | None = None
        # A child that is forked while a thread of its parent imports could never import again.
        os.register_at_fork(
            before=self._lock.acquire,
            after_in_parent=self._lock.release,
            after_in_child=self._lock.release,
        )

    def get(self) -> Book:
        if self._book is None:
            with self._lock:
                self._book = self._book or bundled()
        return self._book

    def use(self, book: Book) -> None:
        with self._lock:
            self._book = book


_CURRENT = _Current()


def current() -> Book:
    """The book in use: the installed edition, or what a refresh brought."""
    return _CURRENT.get()


def use(book: Book) -> None:
    """Price by this book from now on."""
    _CURRENT.use(book)
