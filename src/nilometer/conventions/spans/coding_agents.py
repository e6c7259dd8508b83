"""Claude Code and Codex: spans that count tokens under names which only they give a meaning.

`input_tokens` on any other span may mean anything, so these are no rows of the table: what the
client's own spans say is put in canonical form first, and the table is read after that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nilometer.conventions.spans.row import Convention
from nilometer.domain.span import Span

_CLAUDE_CODE = "com.anthropic.claude_code.tracing"
_TURN = "codex.turn.token_usage."
_CALL = {"gen_ai.operation.name": "chat"}

CONVENTION = Convention(
    name="coding_agents",
    title="Claude Code and Codex",
    source="Claude Code 2.1.197 (its tracing is a beta), Codex 0.169.0",
    heads=frozenset({"codex"}),
    scopes=frozenset({_CLAUDE_CODE}),
    rows=(),
)


def attributes_of(span: Span) -> Mapping[str, Any]:
    """The span's attributes, with the call that they tell of in canonical form where they do."""
    attributes = span.attributes
    if span.scope_name == _CLAUDE_CODE and attributes.get("span.type") == "llm_request":
        return {**attributes, **_request(attributes)}
    if f"{_TURN}input_tokens" in attributes:
        return {**attributes, **_turn(attributes)}
    return attributes


def _request(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """A request of Claude Code's: counts as Anthropic counts, the cache beside the input."""
    usage = {
        "input_tokens": attributes.get("input_tokens"),
        "cache_read_input_tokens": attributes.get("cache_read_tokens"),
        "cache_creation_input_tokens": attributes.get("cache_creation_tokens"),
        "output_tokens": attributes.get("output_tokens"),
    }
    told: dict[str, Any] = {"$ai_cache_reporting_exclusive": True, **_CALL, **_counted(usage)}
    model, first = attributes.get("model"), attributes.get("ttft_ms")
    if isinstance(model, str) and model:
        told["$ai_model"] = model.removesuffix("[1m]")  # Claude Code's mark of the long context
    if isinstance(first, (int, float)):
        told["$ai_time_to_first_token"] = first / 1000
    return told


def _turn(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """A turn of Codex's: the only span with both the model and counts; OpenAI's way of counting.

    The spans of its requests have counts and no model, so that they are no calls.
    """
    count = {
        name.removeprefix(_TURN): value
        for name, value in attributes.items()
        if name.startswith(_TURN)
    }
    flat = {
        "input_tokens": count.get("input_tokens"),
        "output_tokens": count.get("output_tokens"),
        "cache_read_input_tokens": count.get("cached_input_tokens"),
        "cache_creation_input_tokens": count.get("cache_write_input_tokens"),
        "reasoning_tokens": count.get("reasoning_output_tokens"),
        "total_tokens": count.get("total_tokens"),
    }
    counts = {f"$ai_{name}": value for name, value in flat.items() if value is not None}
    usage = {
        "input_tokens": count.get("input_tokens"),
        "input_tokens_details": {"cached_tokens": count.get("cached_input_tokens")},
        "output_tokens": count.get("output_tokens"),
        "output_tokens_details": {"reasoning_tokens": count.get("reasoning_output_tokens")},
        "total_tokens": count.get("total_tokens"),
    }
    told = {"$ai_cache_reporting_exclusive": False, "$ai_usage": usage, **_CALL, **counts}
    model = attributes.get("model")
    return {**told, "$ai_model": model} if isinstance(model, str) and model else told


def _counted(usage: dict[str, Any]) -> dict[str, Any]:
    told = {name: value for name, value in usage.items() if value is not None}
    return {"$ai_usage": told, **{f"$ai_{name}": value for name, value in told.items()}}
