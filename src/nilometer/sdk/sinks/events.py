"""A metric as the server's event: `$ai_embedding`, else `$ai_generation`.

Names are those of `nilometer.conventions.ai_properties` where it has one. The event's uuid follows
from the metric's id, so that a metric sent twice is one event.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from nilometer.domain.identity import canonical_uuid, distinct_id_fault
from nilometer.domain.usage_metric import AIUsageMetric

NOBODY = "nilometer-sdk"
"""Whom an event is about where no user is known: it must be someone."""

BOOK_SOURCES = ("genai-prices", "override:")
"""Prices that the server works out itself, with its own book; other costs are reported ones."""

_NAMESPACE = uuid.UUID("6f8a7f5e-2f0b-5a46-9d0f-6f2f1f8f6a11")

_PROPERTIES = {
    "$ai_provider": "service",
    "$ai_model": "model",
    "$ai_operation": "operation",
    "$ai_requested_model": "requested_model",
    "$ai_response_id": "response_id",
    "$ai_provider_request_id": "provider_request_id",
    "$ai_service_tier": "service_tier",
    "$ai_latency": "latency",
    "$ai_time_to_first_token": "time_to_first_token",
    "$ai_error": "error",
    "$ai_error_type": "error_type",
    "$ai_http_status": "http_status",
    "$ai_job_id": "job_id",
    "$ai_batch_id": "batch_id",
    "$ai_environment": "environment",
    "$ai_developer": "developer",
    "$ai_repository": "repository",
    "$ai_github_pr": "github_pr",
}
_COUNTS = {
    "$ai_cache_read_input_tokens": "cache_read",
    "$ai_reasoning_tokens": "reasoning",
    "$ai_audio_input_tokens": "audio_input",
    "$ai_audio_output_tokens": "audio_output",
    "$ai_image_input_tokens": "image_input",
    "$ai_image_output_tokens": "image_output",
    "$ai_video_input_tokens": "video_input",
}
_UNLESS = {"$ai_api_calls": ("api_calls", 1), "$ai_retries": ("retries", 0)}


def event(metric: AIUsageMetric, version: str) -> dict[str, Any]:
    """The event, without a key. `version` is the library's."""
    return {
        "uuid": event_uuid(metric.request_id),
        "event": "$ai_embedding" if metric.operation.startswith("embed") else "$ai_generation",
        "distinct_id": _distinct_id(metric.user_id or NOBODY),
        "timestamp": metric.timestamp.isoformat(),
        "properties": _properties(metric) | {"$ai_lib": "nilometer", "$ai_lib_version": version},
    }


def event_uuid(request_id: str) -> str:
    """The metric's id where it is a UUID, else one that follows from it."""
    try:
        return canonical_uuid(request_id)
    except ValueError:
        return str(uuid.uuid5(_NAMESPACE, request_id))


def _distinct_id(user: str) -> str:
    """Whom the event is about: the user, or what follows from one that no distinct id can be. The
    server counts the call for the user of the properties, whoever that is."""
    return str(uuid.uuid5(_NAMESPACE, user)) if distinct_id_fault(user) else user


def _properties(metric: AIUsageMetric) -> dict[str, Any]:
    found = {
        name: value
        for name, attribute in _PROPERTIES.items()
        if (value := getattr(metric, attribute)) is not None
    }
    for name, (attribute, usual) in _UNLESS.items():
        if (value := getattr(metric, attribute)) != usual:
            found[name] = value
    found |= {
        "$ai_user_id": metric.user_id,
        "$ai_request_id": metric.request_id,
        "$ai_stream": metric.stream,
        "$ai_is_error": metric.status == "error",
        "$process_person_profile": False,
    }
    if metric.estimated:
        found["$ai_estimated"] = True
    if metric.tags:
        found["$ai_tags"] = list(metric.tags)
    if metric.metadata:
        found["$ai_metadata"] = dict(metric.metadata)
    return found | _usage(metric) | _reported(metric)


def _usage(metric: AIUsageMetric) -> dict[str, Any]:
    """The provider's own object, and the counts for who does not know it. Input includes what was
    cached, which the flag says."""
    usage, vector = metric.usage, metric.vector
    found: dict[str, Any] = {}
    if usage is not None and usage.raw:
        found["$ai_usage"] = dict(usage.raw)
    if vector is not None:
        found["$ai_cache_reporting_exclusive"] = False
        written = vector.cache_write_5m + vector.cache_write_1h
        counts = {name: getattr(vector, bucket) for name, bucket in _COUNTS.items()}
        counts["$ai_cache_creation_input_tokens"] = written
        found |= {name: count for name, count in counts.items() if count}
    totals: Mapping[str, int | None] = {
        "$ai_input_tokens": metric.input_tokens,
        "$ai_output_tokens": metric.output_tokens,
        "$ai_total_tokens": metric.total_tokens,
    }
    if usage is not None and (searches := usage.units.get("web_searches")):
        found["$ai_web_search_count"] = int(searches)
    return found | {name: count for name, count in totals.items() if count is not None}


def _reported(metric: AIUsageMetric) -> dict[str, Any]:
    """What the caller states, else what the provider reports."""
    by_book = (metric.price_source or "").startswith(BOOK_SOURCES)
    stated = metric.stated_cost_usd if by_book else metric.cost_usd
    if stated is not None:
        return {"$ai_total_cost_usd": format(stated, "f"), "$ai_cost_stated": True}
    cost = metric.reported_cost_usd
    return {} if cost is None else {"$ai_total_cost_usd": format(cost, "f")}
