"""Spans and rules; and LiteLLM's keys, headers and addresses, which no rule is needed for."""

import json
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage

from nilometer.capture.otlp_redaction import may_hold_secrets
from nilometer.conventions import litellm_secrets, spans
from nilometer.conventions.content_names import is_content_attribute
from nilometer.conventions.spans.row import INPUT, OUTPUT
from nilometer.conventions.spans.table import CONVENTIONS
from nilometer.domain import otlp_record, protobuf_wire
from nilometer.pipeline import map_otlp, mapping
from tests.capture import otlp
from tests.capture.door import Access, Door
from tests.capture.redaction.conftest import Guarded
from tests.capture.redaction.senders import (
    MAIL,
    PROMPT,
    RULES,
    SECRETS,
    SPAN_ID,
    TRACE,
    otlp_request,
)
from tests.capture.test_otlp_grpc import served

HASH = "88dc28d0f030c55ed4ab77ed8faf098196cb1c05df778539800c9f1243fe6b4b"
PATHS = ("/v1/traces", "/api/public/otel/v1/traces", "/i/v0/ai/otel")
KEPT = {
    **otlp.CHAT,
    "metadata.user_api_key_alias": "ci",
    "metadata.user_api_key_team_id": "team-1",
    "metadata.usage_object": json.dumps({"prompt_tokens": 12}),
    "litellm.call_id": "call-1",
    "gen_ai.prompt.0.content": "my api_key header is not here",
}
SECRET = {
    "metadata.user_api_key_hash": HASH,
    "metadata.user_api_key_auth": {"token": HASH},
    "metadata.requester_ip_address": HASH,
    "metadata.requester_metadata": HASH,
    "langfuse.observation.metadata.user_api_key": HASH,
    "langfuse.trace.metadata.headers": HASH,
    "hidden_params": HASH,
    "litellm.api_key.hash": HASH,
    "llm.headers": HASH,
    "gen_ai.headers": HASH,
    "client.address": HASH,
    "http.request.header.authorization": [f"Bearer {HASH}"],
    "http.response.header.x-request-id": [HASH],
    "authorization": HASH,
    "Authorization": HASH,
    "api_key": HASH,
    "proxy_server_request": HASH,
    "aws_session_token": HASH,
}
NESTED = {"outer": {"user_api_key_hash": HASH, "list": [{"api_key": HASH}], "kept": "yes"}}
METADATA = {"user_api_key_hash": HASH, "user_api_key_alias": "ci", "tags": ["a"], "n": 1}


def secret_request(**given: Any) -> ExportTraceServiceRequest:
    told = {**KEPT, **SECRET, **NESTED, "metadata": json.dumps(METADATA), **given}
    span = otlp.span(told, trace_id=TRACE, span_id=SPAN_ID)
    span.events.add(name="x").attributes.extend(otlp.attributes(SECRET | {"kept": "yes"}))
    span.links.add(trace_id=TRACE, span_id=SPAN_ID).attributes.extend(otlp.attributes(SECRET))
    made = otlp.request(span, resource={"service.name": "proxy", **SECRET})
    made.resource_spans[0].scope_spans[0].scope.attributes.extend(otlp.attributes(SECRET))
    return made


def kept_span(door: Door) -> SpanMessage:
    [envelope] = door.log.envelopes
    request = ExportTraceServiceRequest.FromString(otlp_record.decode(envelope.payload).request)
    return request.resource_spans[0].scope_spans[0].spans[0]


def spans_of(door: Door) -> list[Any]:
    """Every span in the door's log, of any project."""
    return [
        map_otlp.SpanDecoder().span(group.head, scope.head, map_otlp.span_message(data))
        for envelope in door.log.envelopes
        for group, scope, data, _ in map_otlp.items(otlp_record.decode(envelope.payload))
    ]


@pytest.mark.parametrize("json_body", [False, True])
@pytest.mark.parametrize("path", PATHS)
def test_no_secret_of_litellm_is_in_a_log_record(door: Door, path: str, json_body: bool):
    made = secret_request()
    data = json.dumps(otlp.as_json(made)).encode() if json_body else made.SerializeToString()
    content_type = "application/json" if json_body else otlp.PROTOBUF
    response = otlp.post(door, data, path=path, Content_Type=content_type)
    assert response.status_code == 200, response.text
    [envelope] = door.log.envelopes
    assert HASH.encode() not in envelope.payload
    assert b"redacted" not in envelope.payload  # it is no rule of the project's
    [span] = otlp.accepted(door)
    assert {name: span.attributes[name] for name in KEPT} == KEPT
    assert span.attributes["outer"] == {"list": [{}], "kept": "yes"}
    assert json.loads(span.attributes["metadata"]) == {
        "user_api_key_alias": "ci",
        "tags": ["a"],
        "n": 1,
    }
    assert set(span.attributes) == {*KEPT, "outer", "metadata"}
    assert (span.events[0].attributes, span.links[0].attributes) == ({"kept": "yes"}, {})
    assert span.resource == {"service.name": "proxy"}


def test_no_secret_of_litellm_is_in_a_log_record_over_grpc(access: Access, tmp_path):
    with served(access, tmp_path) as port:
        port.export(secret_request())
        [envelope] = port.log.envelopes
    assert HASH.encode() not in envelope.payload


def test_leaving_secrets_out_makes_no_other_event(door: Door):
    told = json.dumps({**METADATA, "user_api_key_end_user_id": "ada"})
    for given in ({}, {"litellm.trace_id": "t", "metadata": told}):
        door.log.envelopes.clear()
        made = secret_request(**given)
        decoder = map_otlp.SpanDecoder()
        group = made.resource_spans[0]
        before = decoder.span(b"", b"", group.scope_spans[0].spans[0])
        otlp.post(door, made.SerializeToString())
        after = decoder.span(b"", b"", kept_span(door))
        was, now = spans.convert(spans.kept(before)), spans.convert(after)
        assert (was.uuid, was.distinct_id, was.event) == (now.uuid, now.distinct_id, now.event)
        gone = {"$otel_events", "$otel_links", "outer", "metadata", *SECRET}
        for each in (was, now):
            for name in gone:
                each.properties.pop(name, None)
        assert was.properties == now.properties


def test_spans_without_secrets_keep_their_bytes_beside_those_with_some(door: Door):
    plain = otlp.span({**KEPT, "note": "the api_key is elsewhere", "n": 1.5})
    made = otlp.request(plain, otlp.span({**KEPT, "api_key": HASH}))
    otlp.post(door, made.SerializeToString())
    assert kept_span(door).SerializeToString() == plain.SerializeToString()
    door.log.envelopes.clear()
    made = otlp.request(plain).SerializeToString() + protobuf_wire.field(77, b"of tomorrow")
    otlp.post(door, made)
    [envelope] = door.log.envelopes
    assert otlp_record.decode(envelope.payload).request == made


def test_every_name_that_is_secret_is_found_by_the_quick_look():
    names = [
        *litellm_secrets._SECRET_NAMES,
        *litellm_secrets._SECRET_ATTRIBUTES,
        *(f"{prefix}x" for prefix in litellm_secrets._HEADER_PREFIXES),
        *("user_api_key_hash", "USER_API_KEY", "Authorization", "metadata.requester_metadata"),
    ]
    assert [n for n in names if not may_hold_secrets(n.encode())] == []


@pytest.mark.parametrize(
    "text",
    ['{"user_api_key_hash": "88dc', '[{"user_api_key": "88dc28"}]', '{"a": {"api_key": "88dc28"}}'],
)
def test_metadata_keeps_no_key_however_it_is_cut(door: Door, text: str):
    otlp.post(door, otlp.body(otlp.span({**otlp.CHAT, "metadata": text})))
    assert b"88dc" not in door.log.envelopes[0].payload


@pytest.mark.parametrize("text", ["plain text on headers", '{"header_level": 1.10}', "[1.10]"])
def test_metadata_without_a_key_stays_as_it_is(door: Door, text: str):
    otlp.post(door, otlp.body(otlp.span({**otlp.CHAT, "metadata": text})))
    assert otlp.accepted(door)[0].attributes["metadata"] == text


@pytest.mark.parametrize("rule", RULES)
def test_rules_hold_over_grpc(access: Access, tmp_path, rule: str):
    with served(access, tmp_path) as port:
        project = access.keyring.authenticate_blocking(port.key).project.project_id
        other = access.project()[1]
        access.accounts.projects.change(project, redaction=RULES[rule])
        port.export(otlp_request(), key=access.accounts.projects.rotate(project).token)
        port.export(otlp_request(), key=other)
        mine, others = port.log.envelopes
    assert SECRETS[rule].encode() not in mine.payload
    assert SECRETS[rule].encode() in others.payload
    assert others.payload.partition(b"\n")[2] == otlp_request().SerializeToString()


def test_fields_of_a_later_protocol_are_not_kept_where_there_are_rules(guarded: Guarded):
    span = otlp.span().SerializeToString() + protobuf_wire.field(99, MAIL.encode())
    scope = protobuf_wire.field(2, span) + protobuf_wire.field(98, MAIL.encode())
    group = protobuf_wire.field(2, scope) + protobuf_wire.field(97, MAIL.encode())
    request = protobuf_wire.field(1, group) + protobuf_wire.field(96, MAIL.encode())
    otlp.post(guarded.door, request, key=guarded.project(RULES["email"]))
    assert len(guarded.door.log.envelopes) == 1
    assert MAIL.encode() not in guarded.kept()


def test_each_span_says_what_was_redacted_in_it_and_keeps_that_alone(guarded: Guarded):
    given = [{}, {"note": f"{MAIL} {MAIL}"}, {"note": MAIL}, {"note": "nothing"}]
    sent = [otlp.span({**otlp.CHAT, **each}) for each in given]
    otlp.post(guarded.door, otlp.body(*sent), key=guarded.project(RULES["email"]))
    [envelope] = guarded.door.log.envelopes
    marks = [{}, {"email": 2}, {"email": 1}, {}]
    for place, mark in enumerate(marks):
        [row] = mapping.map_record(mapping.excerpt(envelope, place))
        assert json.loads(json.loads(row.event).get("redacted", "{}")) == mark
    seen = [json.loads(row.event).get("redacted", "{}") for row in mapping.map_record(envelope)]
    assert list(map(json.loads, seen)) == marks


def test_what_the_resource_holds_is_marked_on_each_of_its_spans(guarded: Guarded):
    data = otlp.body(otlp.span(), otlp.span(), resource={"service.name": "x", "owner": MAIL})
    otlp.post(guarded.door, data, key=guarded.project(RULES["email"]))
    record = otlp_record.decode(guarded.door.log.envelopes[0].payload)
    assert record.redacted == {0: {"email": 1}, 1: {"email": 1}}


def sources(*targets: str) -> list[str]:
    """The attributes that any convention reads these properties from."""
    rows = [row for convention in CONVENTIONS for row in convention.rows]
    named = [name for row in rows if row.target in targets for name in row.sources]
    return [name.partition("#")[0].replace(".N.*", ".0.message.content") for name in named]


CONTENT = sources(INPUT, OUTPUT, "$ai_instructions", "$ai_tools", "$ai_error")


def test_every_convention_names_content():
    assert len(CONTENT) > 40
    assert [name for name in CONTENT if not is_content_attribute(name)] == []


@pytest.mark.parametrize("shape", [str, lambda text: [text], lambda text: {"a": text}, str.encode])
def test_without_content_no_convention_keeps_any(guarded: Guarded, shape: Any):
    given = {
        **dict.fromkeys(CONTENT, shape(PROMPT)),
        "$ai_input": shape(PROMPT),
        "x": shape(PROMPT),
    }
    data = otlp.body(otlp.span({**given, **otlp.CHAT, "gen_ai.usage.input_tokens": 12, "n": 1.5}))
    otlp.post(guarded.door, data, key=guarded.project(RULES["content"]))
    kept = guarded.kept()
    assert PROMPT.encode() not in kept
    [span] = spans_of(guarded.door)
    assert span.attributes == {**otlp.CHAT, "gen_ai.usage.input_tokens": 12, "n": 1.5}


def test_the_address_of_a_sender_is_not_kept_where_a_rule_names_it(guarded: Guarded):
    staff = {"patterns": [{"name": "lo", "regex": r"127\.0\.0\.\d+"}]}
    assert guarded.door.app.gate.settings.trusted_proxies == 0
    from nilometer.capture.redaction import kept_address, redactor_of
    from nilometer.domain.redaction.reading import read_rules

    rules = read_rules(staff)
    assert rules is not None
    assert kept_address(redactor_of(rules), "127.0.0.9") == "127.0.0.1"
    assert kept_address(redactor_of(rules), "203.0.113.9") == "203.0.113.9"
    assert kept_address(None, "203.0.113.9") == "203.0.113.9"
    ipv6 = read_rules({"patterns": ["ipv4", "ipv6"]})
    assert ipv6 is not None
    assert {kept_address(redactor_of(ipv6), ip) for ip in ("203.0.113.9", "2001:db8::7")} == {
        "127.0.0.1"
    }
