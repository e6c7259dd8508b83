"""What providers' own APIs report, a layout each, by their SDKs' types and their pages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from nilometer.conventions.usage.layout import CACHE, INSIDE, REASONING, Count, Layout, Paths

_CHAT: Mapping[Count, Paths] = {
    "input": ("prompt_tokens",),
    "output": ("completion_tokens",),
    "total": ("total_tokens",),
    "cache_read": ("prompt_tokens_details/cached_tokens", "cached_tokens"),
    "cache_write": ("prompt_tokens_details/cache_write_tokens",),
    "audio_input": ("prompt_tokens_details/audio_tokens",),
    "image_input": ("prompt_tokens_details/image_tokens",),
    "video_input": ("prompt_tokens_details/video_tokens",),
    "reasoning": ("completion_tokens_details/reasoning_tokens",),
    "audio_output": ("completion_tokens_details/audio_tokens",),
    "image_output": ("completion_tokens_details/image_tokens",),
}

OPENAI_CHAT = Layout(
    convention="openai_chat",
    source="openai 3.52.0 types/completion_usage.py; imitators are told apart by their total",
    counts=_CHAT,
    or_beside=(REASONING,),
)
OPENAI_EMBEDDINGS = Layout(
    convention="openai_embeddings",
    source="openai 3.52.0 types/create_embedding_response.py",
    counts={"input": ("prompt_tokens", "input_tokens"), "total": ("total_tokens",)},
)
OPENAI_RESPONSES = Layout(
    convention="openai_responses",
    source="openai 3.52.0 types/responses/response_usage.py",
    counts={
        "input": ("input_tokens",),
        "output": ("output_tokens",),
        "total": ("total_tokens",),
        "cache_read": ("input_tokens_details/cached_tokens",),
        "cache_write": ("input_tokens_details/cache_write_tokens",),
        "cache_write_5m": ("input_tokens_details/cache_write_tokens_details/ttl_30m_tokens",),
        "cache_write_1h": ("input_tokens_details/cache_write_tokens_details/ttl_12h_tokens",),
        "audio_input": ("input_tokens_details/audio_tokens",),
        "image_input": ("input_tokens_details/image_tokens",),
        "reasoning": ("output_tokens_details/reasoning_tokens",),
    },
    or_beside=(REASONING,),
    units={
        "web_searches": ("server_side_tool_usage_details/web_search_calls",),
        "social_searches": ("server_side_tool_usage_details/x_search_calls",),
    },
)
OPENAI_REALTIME = Layout(
    convention="openai_realtime",
    source="openai 3.52.0 types/realtime, and types/audio/transcription.py (billed by tokens)",
    counts={
        "input": ("input_tokens",),
        "output": ("output_tokens",),
        "total": ("total_tokens",),
        "cache_read": ("input_token_details/cached_tokens",),
        "audio_input": ("input_token_details/audio_tokens",),
        "image_input": ("input_token_details/image_tokens",),
        "audio_cache_read": ("input_token_details/cached_tokens_details/audio_tokens",),
        "image_cache_read": ("input_token_details/cached_tokens_details/image_tokens",),
        "audio_output": ("output_token_details/audio_tokens",),
    },
)
OPENAI_IMAGES = Layout(
    convention="openai_images",
    source="openai 3.52.0 types/images_response.py; without output details all output is image",
    counts={
        "input": ("input_tokens",),
        "output": ("output_tokens",),
        "total": ("total_tokens",),
        "cache_read": ("input_tokens_details/cached_tokens",),
        "image_input": ("input_tokens_details/image_tokens",),
        "image_cache_read": ("input_tokens_details/cached_tokens_details/image_tokens",),
        "image_output": ("output_tokens_details/image_tokens",),
    },
)
OPENAI_DURATION = Layout(
    convention="openai_duration",
    source="openai 3.52.0 types/audio/transcription.py (billed by the second)",
    counts={},
    units={"audio_seconds": ("seconds",)},
)
ANTHROPIC = Layout(
    convention="anthropic",
    source="anthropic 2.11.0 types/usage.py; also its models on Bedrock InvokeModel and Vertex",
    counts={
        "input": ("input_tokens",),
        "output": ("output_tokens",),
        # Its own answers have none: wrappers add one, with the cache in it or without.
        "total": ("total_tokens",),
        "cache_read": ("cache_read_input_tokens",),
        "cache_write": ("cache_creation_input_tokens",),
        "cache_write_5m": ("cache_creation/ephemeral_5m_input_tokens",),
        "cache_write_1h": ("cache_creation/ephemeral_1h_input_tokens",),
        "reasoning": ("output_tokens_details/thinking_tokens",),
    },
    beside=CACHE,
    # Web fetches cost nothing but their tokens.
    units={"web_searches": ("server_tool_use/web_search_requests",)},
)
GEMINI = Layout(
    convention="gemini",
    source="google-genai 3.4.0 GenerateContentResponseUsageMetadata, UsageMetadata (Live)",
    counts={
        "input": ("promptTokenCount", "prompt_token_count"),
        "output": (
            *("candidatesTokenCount", "candidates_token_count"),
            *("responseTokenCount", "response_token_count"),
        ),
        "total": ("totalTokenCount", "total_token_count"),
        "tool_input": ("toolUsePromptTokenCount", "tool_use_prompt_token_count"),
        "cache_read": ("cachedContentTokenCount", "cached_content_token_count"),
        "reasoning": ("thoughtsTokenCount", "thoughts_token_count"),
    },
    beside=REASONING,
)
BEDROCK_CONVERSE = Layout(
    convention="bedrock_converse",
    source="Amazon Bedrock API reference TokenUsage; Nova's InvokeModel and its metrics",
    counts={
        "input": ("inputTokens", "inputTokenCount"),
        "output": ("outputTokens", "outputTokenCount"),
        "total": ("totalTokens",),
        "cache_read": ("cacheReadInputTokens", "cacheReadInputTokenCount"),
        "cache_write": ("cacheWriteInputTokens", "cacheWriteInputTokenCount"),
    },
    beside=CACHE,
)
BEDROCK_LLAMA = Layout(
    convention="bedrock_llama",
    source="Amazon Bedrock, InvokeModel of Meta Llama models",
    counts={"input": ("prompt_token_count",), "output": ("generation_token_count",)},
)
BEDROCK_TITAN = Layout(
    convention="bedrock_titan",
    source="Amazon Bedrock, InvokeModel of Titan text and embeddings models",
    counts={
        "input": ("inputTextTokenCount",),
        "output": ("totalOutputTextTokenCount", "tokenCount"),
    },
)
DEEPSEEK = Layout(
    convention="deepseek",
    source="DeepSeek API reference, create chat completion: hit and miss make prompt_tokens",
    counts={
        **_CHAT,
        "cache_read": ("prompt_cache_hit_tokens", "prompt_tokens_details/cached_tokens"),
        "uncached": ("prompt_cache_miss_tokens",),
    },
    or_beside=(REASONING,),
)
MISTRAL = replace(
    OPENAI_CHAT,
    convention="mistral",
    source="Mistral API reference UsageInfo; Voxtral's audio is billed by the second besides",
    counts={
        **_CHAT,
        "cache_read": ("prompt_tokens_details/cached_tokens", "num_cached_tokens"),
    },
    units={"audio_seconds": ("prompt_audio_seconds",)},
)
GROQ = replace(OPENAI_CHAT, convention="groq", source="Groq API reference, chat completion")
XAI = Layout(
    convention="xai",
    source="xAI API reference: reasoning is beside completion_tokens, and in the total",
    counts={**_CHAT, "reasoning": (*_CHAT["reasoning"], "reasoning_tokens")},
    beside=REASONING,
    or_beside=(INSIDE,),
    units={
        "search_sources": ("num_sources_used",),
        "web_searches": ("server_side_tool_usage_details/web_search_calls",),
        "social_searches": ("server_side_tool_usage_details/x_search_calls",),
    },
)
OPENROUTER = replace(
    OPENAI_CHAT,
    convention="openrouter",
    source="OpenRouter usage accounting: OpenAI's shape for every model behind it",
    units={"web_searches": ("server_tool_use/web_search_requests",)},
)
PERPLEXITY = Layout(
    convention="perplexity",
    source="Perplexity API reference: reasoning and citations are beside completion_tokens",
    counts={**_CHAT, "reasoning": ("reasoning_tokens",)},
    beside=REASONING,
    units={"web_searches": ("num_search_queries",), "citation_tokens": ("citation_tokens",)},
)
COHERE = Layout(
    convention="cohere",
    source="Cohere API reference v2 Usage, v1 meta: billed units where there are any",
    counts={
        "input": ("billed_units/input_tokens",),
        "output": ("billed_units/output_tokens",),
        "image_input": ("billed_units/image_tokens",),
    },
    units={"rerank_searches": ("billed_units/search_units",)},
    unbilled=frozenset({"cached_tokens"}),
)
COHERE_TOKENS = Layout(
    convention="cohere",
    source="Cohere API reference v2 Usage without billed units",
    counts={
        "input": ("tokens/input_tokens",),
        "output": ("tokens/output_tokens",),
        "cache_read": ("cached_tokens",),
    },
)
OLLAMA = Layout(
    convention="ollama",
    source="Ollama API reference, /api/chat and /api/embed",
    counts={"input": ("prompt_eval_count",), "output": ("eval_count",)},
)
