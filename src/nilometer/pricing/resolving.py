"""Which model of the price book a call was of, from the names that its source sent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nilometer.pricing import names
from nilometer.pricing.book import Ambiguous, Book, Entry, Found, current

# Whose bare names are looked up when a source names no provider, and how they all begin. Models
# with open weights are not here: who served them, and at what price, their names do not say.
_MAKERS = {
    "openai": (
        *("gpt-3", "gpt-4", "gpt-5", "gpt-6", "gpt-image", "gpt-audio", "gpt-realtime", "chatgpt-"),
        *("o1", "o3", "o4", "ft:gpt-", "text-embedding-", "whisper-1", "tts-1", "gpt-transcribe"),
    ),
    "anthropic": ("claude-",),
    "google": ("gemini-",),
    "x-ai": ("grok-",),
    "cohere": ("command-", "embed-", "rerank-"),
    "voyageai": ("voyage-",),
    "perplexity": ("sonar",),
}


@dataclass(frozen=True, slots=True)
class Resolved:
    """A model of the book. `how`: `exact` (a name that the book has) or `snapshot` (such a name and
    a suffix that says only which snapshot)."""

    provider: str
    model: str
    how: str
    entry: Entry

    @property
    def deprecated(self) -> bool:
        """Whether its provider has announced its end."""
        return bool(self.entry.model.deprecated)


@dataclass(frozen=True, slots=True)
class Unresolved:
    """Why no model is meant: `no_model`, `no_provider`, `unknown_provider`, `unknown_model`,
    `ambiguous_model`, or `provider_mismatch` (the model's prefix names another provider).

    `provider` is the book's id, where that much is known.
    """

    reason: str
    provider: str | None = None


def resolve(
    provider: str | None, model: str | None, *, book: Book | None = None
) -> Resolved | Unresolved:
    """The model of the book that a call was of, or why none is certain.

    `provider` and `model` are as the source sent them. Without a provider, or with a gateway, the
    model's prefix (`anthropic/…`) says who; a bare name is looked up at the makers of models, and
    at Bedrock if it has its shape. Never by substring, never a default. docs/prices.md has the
    rules.
    """
    book = book or current()
    sent, name = names.normalized(provider or ""), names.normalized(model or "")
    if not name:
        return Unresolved("no_model")
    if max(len(sent), len(name)) > names.LONGEST_NAME:
        return Unresolved("unknown_model")
    if not sent or sent in names.GATEWAYS:
        return _without_provider(book, name)
    known = book.provider(sent)
    if known is None:
        return Unresolved("unknown_provider")
    return _at_provider(book, known, name)


def _without_provider(book: Book, name: str) -> Resolved | Unresolved:
    prefix, rest = names.split_prefix(name)
    if prefix in names.GATEWAYS:
        return _without_provider(book, rest)
    if prefix and (known := book.provider(prefix)):
        return _at_provider(book, known, name)
    if prefix and not names.is_bedrock_id(name):
        return Unresolved("unknown_provider")
    if names.is_bedrock_id(name):
        return _at_provider(book, "aws", name)
    for maker, beginnings in _MAKERS.items():
        if name.startswith(beginnings) and maker in book.providers():
            return _at_provider(book, maker, name)
    return Unresolved("no_provider")


def _at_provider(book: Book, provider: str, name: str) -> Resolved | Unresolved:
    try:
        if resolved := _first(book, provider, name):
            return resolved
    except Ambiguous:
        return Unresolved("ambiguous_model", provider)
    prefix, _ = names.split_prefix(name)
    # A reseller's own names begin with the maker: it is no other provider than the source said.
    resold = any(each.lower().startswith(f"{prefix}/") for each in book.names(provider))
    elsewhere = book.provider(prefix) if prefix and not resold else None
    mismatch = elsewhere is not None and elsewhere != provider
    return Unresolved("provider_mismatch" if mismatch else "unknown_model", provider)


def _first(book: Book, provider: str, name: str) -> Resolved | None:
    for found in _spelled(book, provider, name):
        return Resolved(provider, found.entry.model.id, found.how, found.entry)
    return None


def _spelled(book: Book, provider: str, name: str) -> Iterator[Found]:
    for spelling in names.spellings(provider, name):
        if found := book.find(provider, spelling):
            yield found
