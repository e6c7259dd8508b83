"""LiteLLM's own attributes, of its first and second OpenTelemetry callbacks."""

from __future__ import annotations

from nilometer.conventions.spans.row import DISTINCT_ID, PARAMETERS, Convention, Row, tokens
from nilometer.conventions.spans.shapes import COUNT, FLAG, ID, IF_TRUE, NAME, SCALAR, USD, USER

USAGE = "litellm"
_V1 = "LiteLLM v1"
_V2 = "LiteLLM v2"
_BOTH = "LiteLLM v1 and v2"
_OBJECT = "metadata.usage_object"

# The Phoenix callback, the only one to write `litellm.trace_id`, sends the end user as the session.
PHOENIX_MARK = "litellm.trace_id"
PHOENIX_MEANS = {"session.id": "litellm.end_user.id"}

CONVENTION = Convention(
    name="litellm",
    title="LiteLLM",
    source="LiteLLM 1.109: `otel` v1, `LITELLM_OTEL_V2`, `arize_phoenix`",
    heads=frozenset({"litellm"}),
    scopes=frozenset({"litellm"}),
    rows=(
        Row("litellm_call_id", ("litellm.call_id",), ID, _BOTH),
        Row("$ai_model", ("litellm.provider.model",), version=_BOTH),
        Row("$ai_cache_hit", ("litellm.cache_hit",), IF_TRUE, _BOTH, calls_only=True),
        Row("$ai_stream", ("litellm.request.streaming",), FLAG, _V2),
        Row("$ai_response_id", ("llm.response.id",), ID, "arize_phoenix"),
        Row("$ai_model", ("llm.response.model",), version="arize_phoenix"),
        Row(
            f"{PARAMETERS}.*",
            ("llm.request.max_tokens", "llm.request.temperature", "llm.request.top_p"),
            SCALAR,
            "arize_phoenix",
        ),
        Row(
            DISTINCT_ID,
            ("litellm.end_user.id", "metadata.user_api_key_end_user_id", "llm.user"),
            USER,
            _BOTH,
        ),
        # What the breakdown calls input includes reads from and writes to the cache.
        Row(
            "$ai_input_cost_usd",
            ("litellm.cost.input", "gen_ai.cost.input_cost"),
            USD,
            _BOTH,
            calls_only=True,
        ),
        Row(
            "$ai_output_cost_usd",
            ("litellm.cost.output", "gen_ai.cost.output_cost"),
            USD,
            _BOTH,
            calls_only=True,
        ),
        Row(
            "$ai_total_cost_usd",
            ("litellm.cost.total", "gen_ai.cost.total_cost"),
            USD,
            _BOTH,
            calls_only=True,
        ),
        Row("litellm_team_alias", ("litellm.team.alias", "litellm.team_alias"), NAME, _BOTH),
        Row("litellm_team_alias", ("metadata.user_api_key_team_alias",), NAME, _V1),
        Row("litellm_team_id", ("litellm.team.id", "litellm.team_id"), ID, _BOTH),
        Row("litellm_team_id", ("metadata.user_api_key_team_id",), ID, _V1),
        *tokens(
            USAGE,
            "LiteLLM v1, inclusive of cache",
            {
                "input_tokens": (f"{_OBJECT}#prompt_tokens",),
                "output_tokens": (f"{_OBJECT}#completion_tokens",),
                "total_tokens": (f"{_OBJECT}#total_tokens",),
                "cache_read_input_tokens": (
                    f"{_OBJECT}#cache_read_input_tokens",
                    f"{_OBJECT}#prompt_tokens_details.cached_tokens",
                ),
                "cache_creation_input_tokens": (
                    f"{_OBJECT}#cache_creation_input_tokens",
                    f"{_OBJECT}#prompt_tokens_details.cache_creation_tokens",
                ),
                "reasoning_tokens": (f"{_OBJECT}#completion_tokens_details.reasoning_tokens",),
            },
            COUNT,
        ),
    ),
)
