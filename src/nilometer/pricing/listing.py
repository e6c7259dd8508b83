"""From a model of the price book to its rates: which price of the book pays for which bucket.

A bucket has the price that the book gives for exactly it. Where it may have a more general one
instead, the tables here say so; everything else is unpriced.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING

from nilometer.pricing.exact import ZERO
from nilometer.pricing.rates import Rates, UnitRate, by_bucket

if TYPE_CHECKING:
    from genai_prices.types import ModelPrice, TieredPrices

    from nilometer.pricing.book import Entry

_KEYS: Mapping[str, tuple[str, ...]] = {
    "uncached_input": ("input_text_mtok", "input_mtok"),
    "cache_read": ("cache_text_read_mtok", "cache_read_mtok"),
    # The book's plain write price is that of the provider's default duration.
    "cache_write_5m": ("cache_text_write_5m_mtok", "cache_write_5m_mtok", "cache_write_mtok"),
    "cache_write_1h": ("cache_text_write_1h_mtok", "cache_write_1h_mtok"),
    "audio_input": ("input_audio_mtok",),
    "audio_cache_read": ("cache_audio_read_mtok",),
    # Price lists give images and video a line only where they cost other than text.
    "image_input": ("input_image_mtok", "input_mtok"),
    "video_input": ("input_video_mtok", "input_mtok"),
    "text_output": ("output_text_mtok", "output_mtok"),
    "reasoning": ("output_reasoning_mtok", "output_mtok"),
    "audio_output": ("output_audio_mtok",),
    "image_output": ("output_image_mtok",),
}
"""The book's prices that may pay for a bucket; the first that the book has does."""

_ONE_INPUT_PRICE: Mapping[str, tuple[str, ...]] = {
    "audio_input": ("input_audio_mtok", "input_mtok"),
    "audio_cache_read": ("cache_audio_read_mtok", "cache_read_mtok"),
}
_SPEECH: Mapping[str, tuple[str, ...]] = {"audio_output": ("output_audio_mtok", "output_mtok")}
_PICTURES: Mapping[str, tuple[str, ...]] = {"image_output": ("output_image_mtok", "output_mtok")}

# https://ai.google.dev/gemini-api/docs/pricing has one input price for text, image, video and audio
# of these, and one output price, of audio, for models that only speak.
# https://platform.openai.com/docs/pricing: the output of these is images and nothing else.
_EXCEPTIONS: Mapping[tuple[str, str], Mapping[str, tuple[str, ...]]] = {
    **{
        ("google", model): _ONE_INPUT_PRICE
        for model in (
            *("gemini-2.5-pro", "gemini-3-pro-preview", "gemini-3.1-pro-preview"),
            *("gemini-3.5-flash-lite", "gemini-omni-1.1-flash"),
        )
    },
    **{
        ("google", model): _SPEECH
        for model in (
            *("gemini-2.5-flash-tts", "gemini-2.5-pro-tts", "gemini-2.5-flash-lite-preview-tts"),
            *("gemini-3.1-flash-tts-preview", "gemini-3.8-flash-tts"),
            "gemini-3.8-flash-lite-tts",
        )
    },
    **{
        ("openai", model): _PICTURES
        for model in (
            *("gpt-image-1", "gpt-image-1-mini", "gpt-image-2"),
            *("gpt-image-2.5-flare", "gpt-image-2.5-sunburst"),
        )
    },
}

_UNITS: Mapping[str, tuple[tuple[str, ...], int]] = {
    "web_searches": (("web_searches_kcount",), 1000),
    "file_searches": (("storage_searches_kcount",), 1000),
    "social_searches": (("social_searches_kcount",), 1000),
    "rerank_searches": (("rerank_searches_kcount",), 1000),
    "requests": (("requests_kcount",), 1000),
    "text_messages": (("input_text_messages_kcount",), 1000),
    "document_pages": (("input_document_kpages",), 1000),
    "annotated_document_pages": (("input_annotated_document_kpages",), 1000),
    "characters": (("input_mchars",), 1_000_000),
    "citation_tokens": (("output_citation_mtok",), 1_000_000),
    "audio_seconds": (("input_audio_hours", "audio_hours"), 3600),
}
"""Units by their name in `Usage.units`: the book's prices, and for how many units they are."""

# https://console.groq.com/docs/speech-to-text: at least 10 seconds of a request are billed.
_LEAST = {
    ("groq", "whisper-large-v3", "audio_seconds"): Decimal(10),
    ("groq", "whisper-large-v3-turbo", "audio_seconds"): Decimal(10),
}


def rates(entry: Entry, standard: ModelPrice, variants: list[ModelPrice]) -> Rates:
    """The rates of a model. With variants (another tier), tokens have the price of the first that
    names one, and are unpriced where none does; units cost in every tier what they cost in the
    standard one, unless a variant says."""
    keys = {**_KEYS, **_EXCEPTIONS.get((entry.provider, entry.model.id), {})}
    listed = {
        bucket: price
        for bucket, choices in keys.items()
        if (price := _token_price(choices, standard, variants)) is not None
    }
    starts = sorted({0, *(start for price in listed.values() for start in _starts(price))})
    rows = tuple(
        (start, by_bucket({bucket: _above(price, start) for bucket, price in listed.items()}))
        for start in starts
    )
    return Rates(rows, dict(_units(entry, [*variants, standard])))


def _token_price(
    choices: tuple[str, ...], standard: ModelPrice, variants: list[ModelPrice]
) -> Decimal | TieredPrices | None:
    for key in choices:
        named = [price for each in variants if (price := getattr(each, key)) is not None]
        listed = getattr(standard, key)
        if named:
            return named[0]
        if listed is not None:
            # A tier that leaves out what the standard tier has says nothing about it.
            return None if variants else listed
    return None


def _units(entry: Entry, prices: list[ModelPrice]) -> Iterator[tuple[str, UnitRate]]:
    for unit, (keys, per) in _UNITS.items():
        listed = [price for each in prices for key in keys if (price := getattr(each, key))]
        if listed and isinstance(listed[0], Decimal):
            least = _LEAST.get((entry.provider, entry.model.id, unit), ZERO)
            yield unit, UnitRate(listed[0], per, least)


def _starts(price: Decimal | TieredPrices) -> list[int]:
    return [] if isinstance(price, Decimal) else [tier.start for tier in price.tiers]


def _above(price: Decimal | TieredPrices, start: int) -> Decimal:
    if isinstance(price, Decimal):
        return price
    reached = [tier.price for tier in price.tiers if tier.start <= start]
    return reached[-1] if reached else price.base
