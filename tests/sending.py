"""Events as a client with plain `requests` sends them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any

import requests

from tests.running import KEY

Blobs = Mapping[str, tuple[str, bytes]]


def ai_parts(event: dict[str, Any], properties: dict[str, Any], blobs: Blobs) -> list[Any]:
    """The parts of a request, in the order that the contract demands."""
    return [
        ("event", (None, json.dumps(event), "application/json")),
        ("event.properties", (None, json.dumps(properties), "application/json")),
        *(
            (f"event.properties.{name}", (None, body, content_type))
            for name, (content_type, body) in blobs.items()
        ),
    ]


def generation(
    identifier: str | None = None, blobs: Blobs | None = None, **properties: Any
) -> list[Any]:
    """The parts of a small generation."""
    event = {
        "uuid": identifier or str(uuid.uuid4()),
        "event": "$ai_generation",
        "distinct_id": "user-1",
    }
    known = {"$ai_model": "gpt-4o-mini", "$ai_trace_id": "trace-1", "$ai_span_id": "span-1"}
    return ai_parts(event, known | properties, blobs or {})


def send(url: str, parts: list[Any], key: str = KEY, timeout: float = 30) -> requests.Response:
    """One request to the door."""
    return requests.post(
        f"{url}/i/v0/ai",
        files=parts,
        headers={"Authorization": f"Bearer {key}"},
        timeout=timeout,
    )
