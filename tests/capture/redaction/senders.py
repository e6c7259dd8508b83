"""One call as each door's client sends it, with the same secrets in many places."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping
from typing import Any

import requests

from tests.capture import otlp
from tests.capture.door import Door, form

MAIL, PASSWORD, STAFF, PROMPT = "ada@example.com", "swordfish", "E-1742", "zebras like tea"
SECRETS = {"email": MAIL, "key:Password": PASSWORD, "staff": STAFF, "content": PROMPT}
"""What each rule of `RULES` must take out."""
RULES: dict[str, dict[str, Any]] = {
    "email": {"patterns": ["email"]},
    "key:Password": {"keys": ["Password"]},
    "staff": {"patterns": [{"name": "staff", "regex": r"E-\d{4}"}]},
    "content": {"content": "none"},
}
UUID = "0190a0b0-1111-7000-8000-00000000000a"
RESPONSE_ID = "chatcmpl-4111111111111111ada"
TRACE, SPAN_ID = bytes(range(1, 17)), bytes(range(1, 9))
TOKENS = 4217

TEXT = f"{PROMPT}, says {MAIL} of {STAFF}"
ARGUMENTS = json.dumps({"password": PASSWORD, "to": MAIL.replace("a", "\\u0061"), "why": TEXT})
ARGUMENTS = ARGUMENTS.replace("\\\\u0061", "\\u0061")
MESSAGES = [
    {"role": "user", "content": TEXT, "PASSWORD": {"old": [PASSWORD]}},
    {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": ARGUMENTS}}]},
]
PROPERTIES: dict[str, Any] = {
    "$ai_model": "gpt-4o",
    "$ai_trace_id": TRACE.hex(),
    "$ai_response_id": RESPONSE_ID,
    "$ai_input_tokens": TOKENS,
    "$ai_input": MESSAGES,
    "$ai_output_choices": [{"role": "assistant", "content": TEXT}],
    "$ai_instructions": TEXT,
    "$ai_tools": [{"name": "f", "description": TEXT}],
    "$ai_error": TEXT,
    "$ai_model_parameters": {"temperature": 0.25, "stop": [TEXT], "password": PASSWORD},
    "my_notes": TEXT,
    "password": PASSWORD,
    f"about {MAIL} of {STAFF}, {PROMPT}": {"x": TEXT},
}


def ai_event(**fields: Any) -> dict[str, Any]:
    return {"uuid": UUID, "event": "$ai_generation", "distinct_id": "someone"} | fields


Sender = Callable[[Door, str], requests.Response]


def _post(door: Door, path: str, data: bytes, **headers: str) -> requests.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return requests.post(
        f"http://127.0.0.1:{door.port}{path}", data=data, headers=named, timeout=30
    )


def ai_embedded(door: Door, key: str) -> requests.Response:
    return door.post(form(ai_event(properties=PROPERTIES, password=PASSWORD, note=TEXT)), key=key)


def ai_apart(door: Door, key: str) -> requests.Response:
    return door.post(form(ai_event(note=TEXT), PROPERTIES), key=key)


def ai_blobs(door: Door, key: str) -> requests.Response:
    kept = {name: value for name, value in PROPERTIES.items() if name != "password"}
    del kept["$ai_input"], kept["$ai_instructions"], kept["my_notes"]
    parts = form(
        ai_event(),
        kept,
        **{
            "$ai_input": ("application/json", json.dumps(MESSAGES).encode()),
            "$ai_instructions": ("text/plain; charset=utf-16", f"{TEXT} Ünd".encode("utf-16")),
            "my_notes": ("application/octet-stream", f"{TEXT} {ARGUMENTS}".encode()),
            "password": ("text/plain", PASSWORD.encode()),
        },
    )
    packed = (None, gzip.compress(TEXT.encode()), "text/plain", {"Content-Encoding": "gzip"})
    return door.post([*parts, ("event.properties.packed", packed)], key=key)


def posthog_v0(door: Door, key: str) -> requests.Response:
    event = ai_event(properties=PROPERTIES, **{"$set": {"name": TEXT, "password": PASSWORD}})
    body = {"api_key": key, "batch": [event, {**event, "uuid": UUID[:-1] + "b"}]}
    return _post(door, "/batch/", json.dumps(body).encode())


def posthog_v0_single(door: Door, key: str) -> requests.Response:
    body = gzip.compress(json.dumps(ai_event(properties=PROPERTIES, api_key=key)).encode())
    return _post(door, "/e/", body)


def posthog_engage(door: Door, key: str) -> requests.Response:
    properties = {"$ai_trace_id": TRACE.hex(), "$ai_input_tokens": TOKENS, "note": TEXT}
    event = {"distinct_id": "someone", "uuid": UUID, "properties": properties}
    person = {"$set": {"about": TEXT, "password": PASSWORD}}
    return _post(door, "/engage/", json.dumps({**event, **person, "api_key": key}).encode())


def posthog_v1(door: Door, key: str) -> requests.Response:
    event = ai_event(properties=PROPERTIES, options={"product_tour_id": "tour"}, note=TEXT)
    return _post(
        door,
        "/i/v1/analytics/events",
        json.dumps({"batch": [event]}).encode(),
        Authorization=f"Bearer {key}",
        PostHog_Sdk_Info=f"mine/{MAIL}-{STAFF}" if MAIL else "",
    )


def litellm(door: Door, key: str) -> requests.Response:
    payload = {
        "id": RESPONSE_ID,
        "litellm_call_id": UUID,
        "call_type": "acompletion",
        "status": "failure",
        "model": "gpt-4o",
        "prompt_tokens": TOKENS,
        "startTime": 1751371200.5,
        "messages": MESSAGES,
        "response": {"id": RESPONSE_ID, "choices": [{"message": {"content": TEXT}}]},
        "model_parameters": {"temperature": 0.25, "stop": TEXT, "password": PASSWORD},
        "metadata": {
            "spend_logs_metadata": {"password": PASSWORD},
            "requester_metadata": {"n": TEXT},
        },
        "error_str": TEXT,
        "error_information": {"error_message": TEXT, "error_class": "BadRequestError"},
    }
    without_id = {"messages": MESSAGES, "metadata": {"password": PASSWORD}}
    body = json.dumps([payload, without_id, TEXT]).encode()
    headers = {"Authorization": f"Bearer {key}", "Content_Type": "application/json"}
    return _post(door, "/integrations/litellm", body, **headers)


ATTRIBUTES: Mapping[str, Any] = {
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "gpt-4o",
    "gen_ai.response.id": RESPONSE_ID,
    "gen_ai.usage.input_tokens": TOKENS,
    "gen_ai.input.messages": json.dumps(MESSAGES),
    "gen_ai.output.messages": [{"role": "assistant", "parts": [{"content": TEXT}]}],
    "gen_ai.system_instructions": TEXT,
    "gen_ai.tool.definitions": [TEXT],
    "gen_ai.prompt.0.content": TEXT,
    "llm.input_messages.0.message.content": TEXT,
    "llm.invocation_parameters": json.dumps({"temperature": 0.25, "stop": TEXT}),
    "input.value": json.dumps({"messages": MESSAGES})[:-9],  # as an exporter cuts it
    "traceloop.entity.input": TEXT,
    "ai.prompt.messages": json.dumps(MESSAGES),
    "langfuse.observation.output": TEXT,
    "logfire.msg": TEXT,
    "embedding.vector": [0.25, 0.5],
    "raw": TEXT.encode(),
    "Password": {"old": PASSWORD},
    "nested": {"deep": {"password": [PASSWORD], "why": TEXT}},
    f"about {MAIL} of {STAFF}": TEXT,
}


def otlp_request() -> Any:
    span = otlp.span(ATTRIBUTES, trace_id=TRACE, span_id=SPAN_ID, trace_state=f"a={MAIL}{STAFF}")
    span.status.code, span.status.message = 2, TEXT
    event = span.events.add(name="gen_ai.user.message")
    event.attributes.extend(otlp.attributes({"content": TEXT, "password": PASSWORD}))
    link = span.links.add(trace_id=TRACE, span_id=SPAN_ID)
    link.attributes.extend(otlp.attributes({"note": TEXT, "password": PASSWORD}))
    resource = {"service.name": "tests", "password": PASSWORD, "owner": f"{MAIL} {STAFF}"}
    resource["process.command_line"] = f"agent --ask '{PROMPT}'"
    other = otlp.span(trace_id=TRACE, span_id=SPAN_ID[::-1])
    made = otlp.request(span, other, resource=resource)
    scope = made.resource_spans[0].scope_spans[0].scope
    scope.attributes.extend(otlp.attributes({"password": PASSWORD, "note": TEXT}))
    return made


def otlp_protobuf(door: Door, key: str) -> requests.Response:
    return otlp.post(door, otlp_request().SerializeToString(), key=key)


def otlp_json(door: Door, key: str) -> requests.Response:
    data = json.dumps(otlp.as_json(otlp_request())).encode()
    return otlp.post(door, data, key=key, Content_Type="application/json")


def otlp_posthog(door: Door, key: str) -> requests.Response:
    data = gzip.compress(otlp_request().SerializeToString())
    return otlp.post(door, data, key=key, path="/i/v0/ai/otel", Content_Encoding="gzip")


SENDERS: dict[str, Sender] = {
    each.__name__: each
    for each in (
        *(ai_embedded, ai_apart, ai_blobs, posthog_v0, posthog_v0_single, posthog_engage),
        *(posthog_v1, litellm, otlp_protobuf, otlp_json, otlp_posthog),
    )
}
