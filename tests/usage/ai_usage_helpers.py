"""Test data of usage tracking: metrics, and what providers answer, as the JSON that their own
libraries read."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import fields
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from nilometer.domain.usage_metric import AIUsageMetric


def create_mock_usage_metric(**given: Any) -> AIUsageMetric:
    """A priced completion of 100 and 50 tokens, but for what is given."""
    defaults: dict[str, Any] = {
        "service": "openai",
        "model": "gpt-4o-mini",
        "operation": "completion",
        "timestamp": datetime.now(UTC),
        "cost_usd": Decimal("0.000045"),
        "latency": 0.5,
        "job_id": "test-job-123",
        "user_id": "test-user",
    }
    if "usage" not in given:
        defaults |= {"input_tokens": 100, "output_tokens": 50}
    return AIUsageMetric(**defaults | given)


def create_mock_openai_response(
    prompt_tokens: int = 100,
    completion_tokens: int = 50,
    model: str = "gpt-4o-mini-2024-07-18",
    content: str = "Test response",
    **members: Any,
) -> dict[str, Any]:
    """The answer of OpenAI's Chat Completions."""
    message = {"role": "assistant", "content": content}
    usage = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }
    return {
        "id": "chatcmpl-test123",
        "object": "chat.completion",
        "created": 1_790_000_000,
        "model": model,
        "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
        "usage": usage,
    } | members


def create_mock_anthropic_response(
    input_tokens: int = 100,
    output_tokens: int = 50,
    model: str = "claude-sonnet-4-6",
    content: str = "Test response",
    **members: Any,
) -> dict[str, Any]:
    """The answer of Anthropic's Messages."""
    return {
        "id": "msg_test123",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [{"type": "text", "text": content}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": input_tokens, "output_tokens": output_tokens},
    } | members


def create_mock_google_places_response(
    place_id: str = "ChIJtest123",
    name: str = "Test Restaurant",
    address: str = "123 Test St",
    status: str = "OK",
) -> dict[str, Any]:
    """The answer of Google's Place Details; without a result where the status is an error."""
    result = {
        "place_id": place_id,
        "name": name,
        "formatted_address": address,
        "types": ["restaurant", "food", "establishment"],
    }
    return {"status": status} | ({"result": result} if status == "OK" else {})


def assert_usage_metric_equal(
    metric: AIUsageMetric, other: AIUsageMetric, ignore_fields: Collection[str] = ()
) -> None:
    """Every field of both is the same, but for the ignored ones; says which are not."""
    names = [each.name for each in fields(AIUsageMetric) if each.name not in ignore_fields]
    differing = {
        name: (getattr(metric, name), getattr(other, name))
        for name in names
        if getattr(metric, name) != getattr(other, name)
    }
    assert not differing


def create_test_tracking_context(
    job_id: str | None = "test-job-123",
    batch_id: str | None = None,
    user_id: str | None = "test-user",
) -> dict[str, str]:
    """Scopes for `usage_context`, without those that are None."""
    scopes = {"job_id": job_id, "batch_id": batch_id, "user_id": user_id}
    return {name: value for name, value in scopes.items() if value is not None}
