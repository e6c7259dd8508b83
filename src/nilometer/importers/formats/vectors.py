"""Usage to a token vector, at the speed of files.

The adapters of `conventions.usage` read every way of counting that there is and check each against
the others: tens of microseconds a call. Nearly all usage of trace files has one of three plain
forms, which is read here in two. Whatever is not plain, in any way, goes to the adapters; a
property test holds the two together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from nilometer.conventions import usage
from nilometer.conventions.typed_values import MAX_INT64
from nilometer.domain.usage import Usage

Tokens = tuple[int, ...]


class Counted(NamedTuple):
    """Usage as a call has it: see `TraceCall`."""

    tokens: Tokens | None
    reason: str
    convention: str
    units: tuple[tuple[str, str], ...] = ()


NOT_REPORTED = Counted(None, "not_reported", "")
_LARGEST = MAX_INT64 >> 4
"""Above it a sum of counts might not fit, which the adapters decide."""


def of_litellm(raw: Mapping[str, Any]) -> Counted:
    """LiteLLM's usage object: `prompt_tokens` contains what the cache gave and took."""
    tokens = _litellm(raw)
    return Counted(tokens, "", "litellm") if tokens else by_adapter(raw, "litellm")


def of_anthropic(raw: Mapping[str, Any]) -> Counted:
    """Anthropic's usage object: `input_tokens` is what the cache neither gave nor took."""
    tokens = _anthropic(raw)
    return Counted(tokens, "", "anthropic") if tokens else by_adapter(raw, "anthropic")


def by_adapter(raw: Mapping[str, Any], convention: str | None = None) -> Counted:
    """By the adapter of a convention, or of the one that the names give away."""
    name = convention or usage.detect(raw)
    return _counted(usage.ADAPTERS[name](raw)) if name else NOT_REPORTED


def _counted(found: Usage) -> Counted:
    tokens = None if found.vector is None else found.vector.counts
    units = tuple((unit, format(amount, "f")) for unit, amount in sorted(found.units.items()))
    return Counted(tokens, found.reason, found.convention, units)


def plain_pair(fresh: int, output: int) -> Tokens:
    """Input and output, and nothing known of a cache."""
    return (fresh, 0, 0, 0, 0, 0, 0, 0, output, 0, 0, 0)


_LITELLM_SIDES = frozenset({"prompt_tokens", "completion_tokens", "total_tokens"})
_LITELLM_READ = "cache_read_input_tokens"
_LITELLM_WRITE = "cache_creation_input_tokens"


def _litellm(raw: Mapping[str, Any]) -> Tokens | None:
    entered, left, total = (
        raw.get("prompt_tokens"),
        raw.get("completion_tokens"),
        raw.get("total_tokens"),
    )
    if type(entered) is not int or type(left) is not int or type(total) is not int:
        return None
    if entered < 0 or left < 0 or entered + left != total or not 0 < total < _LARGEST:
        return None
    if len(raw) == len(_LITELLM_SIDES):
        return plain_pair(entered, left)
    found = _litellm_parts(raw)
    if found is None:
        return None
    read, write, long, reasoning = found
    fresh, text = entered - read - write, left - reasoning
    if fresh < 0 or text < 0:
        return None
    return (fresh, read, write - long, long, 0, 0, 0, 0, text, reasoning, 0, 0)


def _litellm_parts(raw: Mapping[str, Any]) -> tuple[int, int, int, int] | None:
    """(cache read, cache written, of it for an hour, reasoning); None for anything else told."""
    inner = _told(raw, ("prompt_tokens_details", "completion_tokens_details"))
    if inner is None:
        return None
    flat, (prompt, completion) = inner
    read, write = flat.pop(_LITELLM_READ, 0), flat.pop(_LITELLM_WRITE, 0)
    if not flat.keys() <= _LITELLM_SIDES:
        return None
    split = _told(prompt, ("cache_creation_token_details",))
    if split is None:
        return None
    parts, (durations,) = split
    parts.pop("text_tokens", 0)
    completion = _numbers(completion)
    if completion is None:
        return None
    completion.pop("text_tokens", 0)
    reasoning = completion.pop("reasoning_tokens", 0)
    reads, writes = parts.pop("cached_tokens", 0), parts.pop("cache_creation_tokens", 0)
    if parts or completion or (reads and read and reads != read):
        return None
    return _with_writes(reads or read, writes, write, durations, reasoning)


def _with_writes(
    read: int, inner: int, outer: int, durations: Mapping[str, Any], reasoning: int
) -> tuple[int, int, int, int] | None:
    told = _numbers(durations)
    if told is None or (inner and outer and inner != outer):
        return None
    short = told.pop("ephemeral_5m_input_tokens", 0)
    long = told.pop("ephemeral_1h_input_tokens", 0)
    write = inner or outer
    if told or (short + long and short + long != write):
        return None
    return read, write, long, reasoning


_ANTHROPIC_WORDS = frozenset({"service_tier", "inference_geo", "speed", "iterations"})


def _anthropic(raw: Mapping[str, Any]) -> Tokens | None:
    if type(raw.get("input_tokens")) is not int or type(raw.get("output_tokens")) is not int:
        return None
    inner = _told(raw, ("cache_creation", "server_tool_use"), _ANTHROPIC_WORDS)
    if inner is None:
        return None
    flat, (creation, tools) = inner
    durations, searches = _numbers(creation), _numbers(tools)
    if durations is None or searches is None:
        return None
    searches.pop("web_fetch_requests", 0)
    fresh, left = flat.pop("input_tokens", 0), flat.pop("output_tokens", 0)
    read, write = flat.pop(_LITELLM_READ, 0), flat.pop(_LITELLM_WRITE, 0)
    short = durations.pop("ephemeral_5m_input_tokens", 0)
    long = durations.pop("ephemeral_1h_input_tokens", 0)
    if flat or durations or searches or (short + long and short + long != write):
        return None
    tokens = (fresh, read, write - long, long, 0, 0, 0, 0, left, 0, 0, 0)
    return tokens if 0 < sum(tokens) < _LARGEST else None


def _told(
    raw: Mapping[str, Any], objects: tuple[str, ...], words: frozenset[str] = frozenset()
) -> tuple[dict[str, int], list[Mapping[str, Any]]] | None:
    """The counts of an object that are not 0, and the objects in it by these names. None where it
    tells anything else; `words` tell nothing of counts."""
    counts: dict[str, int] = {}
    for name, value in raw.items():
        if type(value) is int:
            if value < 0 or value > _LARGEST:
                return None
            if value:
                counts[name] = value
        elif value is not None and name not in words and name not in objects:
            return None
    found: list[Mapping[str, Any]] = []
    for name in objects:
        value = raw.get(name)
        if value is None:
            found.append({})
        elif type(value) is dict:
            found.append(cast("Mapping[str, Any]", value))
        else:
            return None
    return counts, found


def _numbers(raw: Mapping[str, Any]) -> dict[str, int] | None:
    told = _told(raw, ()) if raw else None
    return told[0] if told else (None if raw else {})
