"""The columns of `calls` that say what a call consumed, what that costs, and how both are known."""

from __future__ import annotations

from nilometer.domain.usage import INPUT_BUCKETS, OUTPUT_BUCKETS

MONEY = "Nullable(Decimal(76, 18))"
"""How a query reads money, which is stored as Decimal(38, 18). The engine divides and multiplies
two of those in 128 bits without a check: from 170.15 on the answer is another number (seen). In 256
bits amounts up to 10 ** 40 are right."""
_TOKENS = "Nullable(UInt64)"
_WORD = "String"
_BUCKETS = {
    "uncached_input": "text input that no cache had",
    "cache_read": "input read from the provider's cache",
    "cache_write_5m": "input written to the provider's cache for 5 minutes",
    "cache_write_1h": "input written to the provider's cache for an hour",
    "audio_input": "audio input that no cache had",
    "audio_cache_read": "audio input read from the provider's cache",
    "image_input": "image input",
    "video_input": "video input",
    "text_output": "text output",
    "reasoning": "output spent on reasoning",
    "audio_output": "audio output",
    "image_output": "image output",
}
_ORDER = (*INPUT_BUCKETS, *OUTPUT_BUCKETS)

USAGE: tuple[tuple[str, str, str], ...] = (
    ("vector_input", _TOKENS, "All input tokens, cached or not, whatever the provider's habit."),
    ("vector_output", _TOKENS, "All output tokens, reasoning included."),
    ("vector_total", _TOKENS, "Both."),
    *((f"vector_{name}", _TOKENS, f"Tokens: {_BUCKETS[name]}. Buckets are disjoint.")
      for name in _ORDER),
    ("usage_convention", _WORD, "How the source counts."),
    ("usage_reason", _WORD, "Why there is no vector; empty when there is one."),
    ("usage_units", "String", "What is counted besides tokens: a JSON object of decimal texts."),
    ("service_tier", _WORD, "The tier of the call, as its source names it; empty for none."),
)  # fmt: skip
"""Name, type and description, in the order of the page."""

COST: tuple[tuple[str, str, str], ...] = (
    ("cost_total", MONEY, "Computed cost, USD, exact; NULL when a price is not known."),
    ("cost_input", MONEY, "Computed cost of all input."),
    ("cost_output", MONEY, "Computed cost of all output."),
    *((f"cost_{name}", MONEY, f"Computed cost: {_BUCKETS[name]}.") for name in _ORDER),
    ("cost_units", MONEY, "Computed cost of what is not tokens: requests, searches, images."),
    ("price_source", _WORD, "Where the price is from: genai-prices, or override:<id>."),
    ("price_version", _WORD, "The version of that source."),
    ("price_as_of", _WORD, "The date of the price rule."),
    ("price_reason", _WORD, "Why there is no computed cost; empty when there is one."),
    ("priced_model", _WORD, "The model whose price was used."),
    ("priced_provider", _WORD, "Its provider."),
)  # fmt: skip

SCOPES: tuple[tuple[str, str, str], ...] = (
    ("operation_name", _WORD, "What was asked for: completion, embedding, place_details …"),
    ("api_calls", "UInt64", "Requests that the row stands for."),
    ("user_id", _WORD, "The user as usage counts it: `$ai_user_id`, else `distinct_id`."),
    ("job_id", _WORD, "The job that the call was for; this and the next are empty for none."),
    ("batch_id", _WORD, "The batch."),
    ("environment", _WORD, "Such as production."),
    ("developer", _WORD, "Who ran it."),
    ("repository", _WORD, "The code that it is of."),
    ("tags", "Array(String)", "Its tags, sorted."),
)
"""Whom and what a call was for."""
