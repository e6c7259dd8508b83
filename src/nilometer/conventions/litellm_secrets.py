"""What LiteLLM tells of its keys, its callers' headers and addresses: never kept.

Key records (hash, budgets, spend, auth metadata), request and response headers, IP addresses. The
names of people, teams, organizations and keys stay: reports are made by them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, cast

from nilometer.conventions import typed_values
from nilometer.conventions.loose_values import within, without_query

_KEPT_KEY_FIELDS = frozenset(
    f"user_api_key_{name}"
    for name in (
        *("alias", "org_id", "org_alias", "team_id", "team_alias", "project_id", "project_alias"),
        *("user_id", "user_email", "end_user_id", "request_route"),
    )
)
_SECRET_NAMES = frozenset(
    {
        *("user_api_key", "user_api_key_auth", "requester_ip_address", "requester_custom_headers"),
        *("headers", "additional_headers", "extra_headers", "api_key", "raw_request_headers"),
        *("proxy_server_request", "cache_key", "aws_access_key_id", "aws_secret_access_key"),
        *("aws_session_token", "vertex_credentials", "azure_ad_token", "authorization"),
        *("secret_fields", "litellm_credentials"),
    }
)
_SECRET_ATTRIBUTES = frozenset(
    {"hidden_params", "gen_ai.headers", "llm.headers", "litellm.api_key.hash", "client.address"}
)
_METADATA_PREFIXES = (*("metadata.", "langfuse.observation.metadata.", "langfuse.trace.metadata."),)
_HEADER_PREFIXES = ("http.request.header.", "http.response.header.")
_URLS = frozenset({"api_base", "base_url"})
# Content is the caller's own and is left to the project's redaction.
_CONTENT = frozenset({"messages", "response", "classifier_input"})
_MAX_DEPTH = 8
_SESSION_HEADER = re.compile(r"x-(?:[a-z0-9-]+-)?session-id")


MARKS = (
    *("api_key", "header", "authorization", "requester_", "proxy_server_request", "cache_key"),
    *("aws_", "vertex_credentials", "azure_ad_token", "secret_fields", "litellm_credentials"),
    *("hidden_params", "client.address"),
)
"""Of every name that is never kept, in small letters, a part: where none of them is, nor is it."""


def is_secret(name: str) -> bool:
    """Whether a member of LiteLLM's payload or metadata is one of those never kept."""
    if name.startswith("user_api_key"):
        return name not in _KEPT_KEY_FIELDS
    return name.lower() in _SECRET_NAMES


def is_secret_attribute(name: str) -> bool:
    """Whether a span's attribute is one: LiteLLM's metadata, or headers of HTTP."""
    if name in _SECRET_ATTRIBUTES or name.startswith(_HEADER_PREFIXES):
        return True
    for prefix in _METADATA_PREFIXES:
        if name.startswith(prefix):
            inner = name[len(prefix) :]
            return is_secret(inner) or inner in ("requester_metadata", "hidden_params")
    return False


def is_secret_property(name: str) -> bool:
    """Whether a property of LiteLLM's PostHog callback is one: it writes its metadata as texts."""
    return name == "requester_metadata" or is_secret(name)


def scrubbed_text(text: str) -> str:
    """LiteLLM's metadata as JSON text, without secrets; "" when it is no JSON object."""
    try:
        metadata = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(metadata, dict):
        return ""
    return json.dumps(_scrubbed("metadata", metadata, _MAX_DEPTH), ensure_ascii=False)


def without_secrets(text: str) -> str:
    """Metadata as JSON text without secrets; the text itself where there is none in it. What is no
    JSON and speaks of a key's record is "": it was cut short."""
    try:
        metadata = json.loads(text)
    except (ValueError, RecursionError):
        return "" if "user_api_key" in text else text
    told = _scrubbed("metadata", metadata, _MAX_DEPTH)
    return text if told == metadata else json.dumps(told, ensure_ascii=False)


def scrubbed(payload: Mapping[str, Any]) -> dict[str, Any]:
    """The payload of one call without secrets, at any depth outside the content; a new object.

    A session that only a header names takes the empty `session_id`'s place, where LiteLLM puts it
    when told to. Scrubbing the result again changes nothing.
    """
    kept = {
        name: value if name in _CONTENT else _scrubbed(name, value, _MAX_DEPTH)
        for name, value in payload.items()
        if not is_secret(name)
    }
    session = None if payload.get("session_id") else header_session(payload)
    return {**kept, "session_id": session} if session else kept


def header_session(payload: Mapping[str, Any]) -> str | None:
    """The value of a header such as `x-claude-code-session-id`; no other header is looked at."""
    metadata = payload.get("metadata")
    for path in (("requester_metadata", "headers"), ("requester_custom_headers",)):
        headers = within(metadata, path)
        members = cast("dict[str, Any]", headers) if isinstance(headers, dict) else {}
        for name, value in members.items():
            if _SESSION_HEADER.fullmatch(str(name).lower()):
                return typed_values.name(value)
    return None


def _scrubbed(name: str, value: Any, depth: int) -> Any:
    if name in _URLS:
        return without_query(value)
    if isinstance(value, dict) and depth > 0:
        return {
            key: _scrubbed(key, inner, depth - 1)
            for key, inner in cast("dict[str, Any]", value).items()
            if not is_secret(key)
        }
    if isinstance(value, list) and depth > 0:
        return [_scrubbed("", inner, depth - 1) for inner in cast("list[Any]", value)]
    return value if not isinstance(value, (dict, list)) else None
