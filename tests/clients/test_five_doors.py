"""The same conversation through five doors: the same tokens and costs, and one call by its id.

Two calls, reckoned by hand. Anthropic's claude-sonnet-4-5, USD for a million tokens: input 3.00,
cache read 0.30, cache write of 5 minutes 3.75, output 15.00. OpenAI's is that of `golden`. Most of
the doors cannot tell writes to the cache of an hour, so there are none.
"""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import httpx
import pytest

from tests.clients import golden
from tests.clients.river import Project, cost, new_project, vector
from tests.running import NO_TLS, Server
from tests.sending import ai_parts

START = 1_795_000_000
SECONDS = 2


@dataclass(frozen=True)
class Call:
    """One request to a provider, and what it used."""

    provider: str
    model: str
    response_id: str
    uncached: int
    read: int
    written: int
    text: int
    reasoning: int
    vector: dict[str, int]
    cost: Decimal

    @property
    def input(self) -> int:
        return self.uncached + self.read + self.written

    @property
    def output(self) -> int:
        return self.text + self.reasoning


ANTHROPIC = Call(
    *("anthropic", "claude-sonnet-4-5-20250929", "msg_01Aq9w938a90dw8q"),
    *(40, 1000, 300, 25, 0),
    {"uncached_input": 40, "cache_read": 1000, "cache_write_5m": 300, "text_output": 25},
    (40 * 3 + 1000 * Decimal("0.30") + 300 * Decimal("3.75") + 25 * 15) / golden.MILLION,
)
OPENAI = Call(
    *("openai", "gpt-4o-mini-2024-07-18", "chatcmpl-9aQ2mB7xK1fVdT3s"),
    *(20, 100, 0, 20, 10),
    golden.VECTOR,
    golden.COST,
)
assert Decimal("0.00192") == ANTHROPIC.cost


def properties(call: Call) -> dict[str, Any]:
    """As PostHog's SDK says it: Anthropic's input without the cache, OpenAI's with it."""
    return {
        "$ai_trace_id": "the conversation",
        "$ai_span_id": call.response_id,
        "$ai_provider": call.provider,
        "$ai_model": call.model,
        "$ai_response_id": call.response_id,
        "$ai_input_tokens": call.uncached if call.provider == "anthropic" else call.input,
        "$ai_cache_read_input_tokens": call.read,
        "$ai_cache_creation_input_tokens": call.written,
        "$ai_output_tokens": call.output,
        "$ai_reasoning_tokens": call.reasoning,
    }


def through_ai(project: Project, call: Call) -> httpx.Response:
    event = {"uuid": str(uuid.uuid4()), "event": "$ai_generation", "distinct_id": "ada"}
    return httpx.post(
        f"{project.server.url}/i/v0/ai",
        files=ai_parts(event, properties(call), {}),
        headers={"Authorization": f"Bearer {project.key}"},
        verify=NO_TLS,
        timeout=60,
    )


def through_batch(project: Project, call: Call) -> httpx.Response:
    event = {"uuid": str(uuid.uuid4()), "event": "$ai_generation", "distinct_id": "ada"}
    event |= {"properties": properties(call)}
    return httpx.post(
        f"{project.server.url}/batch/",
        json={"api_key": project.key, "batch": [event]},
        verify=NO_TLS,
        timeout=60,
    )


def through_otlp(project: Project, call: Call) -> httpx.Response:
    """OpenTelemetry's conventions: the input contains what was read and written."""
    counts = {
        "input_tokens": call.input,
        "output_tokens": call.output,
        "cache_read.input_tokens": call.read,
        "cache_creation.input_tokens": call.written,
        "reasoning.output_tokens": call.reasoning,
    }
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": call.provider,
        "gen_ai.request.model": call.model,
        "gen_ai.response.id": call.response_id,
    } | {f"gen_ai.usage.{name}": count for name, count in counts.items()}
    headers = {"Authorization": f"Bearer {project.key}"}
    return _export(project, "/v1/traces", attributes, headers)


def through_langfuse(project: Project, call: Call) -> httpx.Response:
    """Langfuse's usage_details: every key beside the others."""
    details = {"input": call.uncached, "output": call.text, "input_cache_read": call.read}
    details |= {"input_cache_creation": call.written, "output_reasoning": call.reasoning}
    attributes = {
        "langfuse.observation.type": "generation",
        "langfuse.observation.model.name": call.model,
        "langfuse.observation.metadata.response_id": call.response_id,
        "langfuse.observation.usage_details": json.dumps(
            details | {"total": call.input + call.output}
        ),
    }
    pair = base64.b64encode(f"{project.number}:{project.key}".encode()).decode()
    headers = {"Authorization": f"Basic {pair}"}
    return _export(project, "/api/public/otel/v1/traces", attributes, headers)


def through_litellm(project: Project, call: Call) -> httpx.Response:
    """LiteLLM's payload: prompt_tokens contains what was read and written."""
    usage: dict[str, Any] = {
        "prompt_tokens": call.input,
        "completion_tokens": call.output,
        "total_tokens": call.input + call.output,
        "prompt_tokens_details": {
            "cached_tokens": call.read,
            "cache_creation_tokens": call.written,
        },
        "completion_tokens_details": {"reasoning_tokens": call.reasoning},
    }
    payload = {
        "id": call.response_id,
        "litellm_call_id": str(uuid.uuid4()),
        "call_type": "acompletion",
        "status": "success",
        "model": call.model,
        "custom_llm_provider": call.provider,
        "startTime": START,
        "endTime": START + SECONDS,
        "prompt_tokens": call.input,
        "completion_tokens": call.output,
        "total_tokens": call.input + call.output,
        "metadata": {"usage_object": usage},
        "response": {"id": call.response_id, "model": call.model},
    }
    return httpx.post(
        f"{project.server.url}/integrations/litellm",
        json=[payload],
        headers={"Authorization": f"Bearer {project.key}"},
        verify=NO_TLS,
        timeout=60,
    )


def _export(
    project: Project, path: str, attributes: dict[str, Any], headers: dict[str, str]
) -> httpx.Response:
    span = {
        "traceId": uuid.uuid4().hex,
        "spanId": uuid.uuid4().hex[:16],
        "name": "chat",
        "startTimeUnixNano": str(START * 10**9),
        "endTimeUnixNano": str((START + SECONDS) * 10**9),
        "attributes": [
            {"key": name, "value": {"intValue": value} if type(value) is int else _text(value)}
            for name, value in attributes.items()
        ],
    }
    body = {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}
    return httpx.post(
        f"{project.server.url}{path}", json=body, headers=headers, verify=NO_TLS, timeout=60
    )


def _text(value: str) -> dict[str, str]:
    return {"stringValue": value}


DOORS: dict[str, Callable[[Project, Call], httpx.Response]] = {
    "ai": through_ai,
    "batch": through_batch,
    "otlp": through_otlp,
    "langfuse": through_langfuse,
    "litellm": through_litellm,
}
CALLS = {"anthropic": ANTHROPIC, "openai": OPENAI}


def accepted(answer: httpx.Response) -> None:
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("door", DOORS)
def test_each_door_tells_the_same_tokens_and_cost(server: Server, door: str, call: Call):
    project = new_project(server, f"{door} {call.provider}")
    accepted(DOORS[door](project, call))
    [told] = project.calls(1)
    assert (vector(told), cost(told)) == (call.vector, call.cost)
    assert (told["identity"], told["call_id"]) == ("response", call.response_id)


def test_a_conversation_told_by_five_doors_is_counted_once(server: Server):
    project = new_project(server, "five doors")
    for send in DOORS.values():
        for call in CALLS.values():
            accepted(send(project, call))
    # A last call of another id: when it is there, all that was sent before it is.
    last = Call(**{**vars(OPENAI), "response_id": "chatcmpl-the-last-of-all"})
    accepted(through_batch(project, last))
    told = {row["call_id"]: row for row in project.calls(3)}
    assert set(told) == {ANTHROPIC.response_id, OPENAI.response_id, last.response_id}
    for call in CALLS.values():
        row = told[call.response_id]
        assert (vector(row), cost(row)) == (call.vector, call.cost)
    [events] = project.query("SELECT count() AS n FROM events WHERE event = '$ai_generation'")
    assert events["n"] == 2 * len(DOORS) + 1
