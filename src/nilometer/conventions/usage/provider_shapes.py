"""What providers write in lists and special cases, which a layout cannot say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any, cast

from nilometer.conventions.usage import providers
from nilometer.conventions.usage.counts import Counts, Unusable, read_counts, value_at, whole
from nilometer.conventions.usage.layout import Count
from nilometer.conventions.usage.reading import read_by
from nilometer.domain.usage import Usage

_MODALITIES: Mapping[tuple[str, ...], Mapping[str, Count]] = {
    ("promptTokensDetails", "prompt_tokens_details"): {
        "AUDIO": "audio_input",
        "IMAGE": "image_input",
        "VIDEO": "video_input",
    },
    ("cacheTokensDetails", "cache_tokens_details"): {
        "AUDIO": "audio_cache_read",
        "IMAGE": "image_cache_read",
        "VIDEO": "video_cache_read",
    },
    (
        *("candidatesTokensDetails", "candidates_tokens_details"),
        *("responseTokensDetails", "response_tokens_details"),
    ): {"AUDIO": "audio_output", "IMAGE": "image_output"},
}
_RERANK = replace(providers.COHERE, counts={})
_TTLS: Mapping[str, Count] = {"5m": "cache_write_5m", "1h": "cache_write_1h"}


def anthropic(raw: Mapping[str, Any]) -> Usage:
    """Anthropic's usage, with what a beta response tells of its iterations.

    A compaction's tokens are billed but not in the top-level counts, so they are added. An
    advisor is another model, with its own price: its tokens are units, not part of the vector.
    """
    usage = read_by(providers.ANTHROPIC, raw, more=_compactions)
    try:
        advisor = sum(
            number
            for counts in _iterations(raw, "advisor_message")
            for name, number in counts.items()
            if name != "total"
        )
    except Unusable:
        return usage  # the same iterations have made the vector unusable already
    return replace(
        usage, units={**usage.units, "advisor_tokens": Decimal(advisor)} if advisor else usage.units
    )


def gemini(raw: Mapping[str, Any]) -> Usage:
    """Gemini's usage metadata: modalities stand in lists."""
    return read_by(providers.GEMINI, raw, more=_modalities)


def bedrock_converse(raw: Mapping[str, Any]) -> Usage:
    """Bedrock's TokenUsage: cache writes by duration stand in a list."""
    return read_by(providers.BEDROCK_CONVERSE, raw, more=_cache_details)


def bedrock_titan(raw: Mapping[str, Any]) -> Usage:
    """Titan's answer: text has results, an embedding has none."""
    return read_by(
        providers.BEDROCK_TITAN, raw, more=_titan_results, embedding="results" not in raw
    )


def openai_images(raw: Mapping[str, Any]) -> Usage:
    """Image generation: gpt-image-1 says no output details, and puts out images only."""
    return read_by(providers.OPENAI_IMAGES, raw, more=_all_image)


def cohere(raw: Mapping[str, Any]) -> Usage:
    """Cohere's usage: what is billed, else the tokens; a rerank is billed by the search."""
    billed = raw.get("billed_units")
    if not isinstance(billed, Mapping):
        return read_by(providers.COHERE_TOKENS, raw)
    if "input_tokens" not in billed and "search_units" in billed:
        return read_by(_RERANK, raw)
    return read_by(providers.COHERE, raw, embedding=True)


def _compactions(raw: Mapping[str, Any], counts: Counts) -> None:
    for extra in _iterations(raw, "compaction"):
        for name, number in extra.items():
            counts[name] = counts.get(name, 0) + number
        counts.pop("total", None)  # a wrapper's, of the top-level counts


def _iterations(raw: Mapping[str, Any], kind: str) -> Iterator[Counts]:
    for item in _objects(raw, ("iterations",)):
        if item.get("type") == kind:
            yield read_counts(providers.ANTHROPIC, item)


def _modalities(raw: Mapping[str, Any], counts: Counts) -> None:
    for names, known in _MODALITIES.items():
        for item in _objects(raw, names):
            count = known.get(_enum_name(item.get("modality")))
            if count is not None:
                number = whole(item.get("tokenCount", item.get("token_count")), names[0])
                counts[count] = counts.get(count, 0) + (number or 0)


def _enum_name(value: Any) -> str:
    """`AUDIO` of `AUDIO`, `audio` and `MediaModality.AUDIO`."""
    return value.rpartition(".")[2].upper() if isinstance(value, str) else ""


def _cache_details(raw: Mapping[str, Any], counts: Counts) -> None:
    for item in _objects(raw, ("cacheDetails",)):
        count = _TTLS.get(str(item.get("ttl")))
        number = whole(item.get("inputTokens"), "cacheDetails")
        if count is not None and number:
            counts[count] = counts.get(count, 0) + number


def _titan_results(raw: Mapping[str, Any], counts: Counts) -> None:
    numbers = [whole(item.get("tokenCount"), "results") for item in _objects(raw, ("results",))]
    if numbers and None not in numbers:
        counts.setdefault("output", sum(number for number in numbers if number))


def _all_image(raw: Mapping[str, Any], counts: Counts) -> None:
    if value_at(raw, "output_tokens_details") is None and "output" in counts:
        counts["image_output"] = counts["output"]


def _objects(raw: Mapping[str, Any], names: tuple[str, ...]) -> Iterator[Mapping[str, Any]]:
    """The objects of the first of these lists that is there."""
    for name in names:
        value = raw.get(name)
        if value is None:
            continue
        if not isinstance(value, (list, tuple)):
            raise Unusable(f"invalid_count:{names[0]}")
        for item in cast("list[Any]", value):
            if not isinstance(item, Mapping):
                raise Unusable(f"invalid_count:{names[0]}")
            yield cast("Mapping[str, Any]", item)
        return
