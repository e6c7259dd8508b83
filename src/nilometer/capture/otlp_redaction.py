"""What must not be in the log, taken out of an export request: secrets always, and what the
project's rules say.

The request is taken apart to its spans; a span is decoded only where there is something to look
for, and keeps its bytes where nothing was found.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import orjson
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage

from nilometer.capture.otlp_export import Export
from nilometer.conventions import content_names, litellm_secrets
from nilometer.domain import otlp_request
from nilometer.domain.redaction.patterns import compiled
from nilometer.domain.redaction.redactor import Redactor
from nilometer.domain.redaction.rules import CONTENT, replacement

Attributes = Any  # a repeated KeyValue, which no stub describes

_NUMBERS_OF = frozenset(
    {
        *("ai.response.providerMetadata", "llm.invocation_parameters"),
        *("embedding.invocation_parameters", "langfuse.observation.model.parameters"),
    }
)
_MARKS = compiled(f"(?i){'|'.join(map(re.escape, litellm_secrets.MARKS))}")
_LARGE = frozenset({"array_value", "kvlist_value", "bytes_value", "string_value"})
_Message = TypeVar("_Message", ResourceSpans, ScopeSpans, SpanMessage)


def may_hold_secrets(data: bytes) -> bool:
    """Whether a message or a text may have one of the names never kept: a third of a millisecond
    for a hundred spans, and never wrongly false."""
    return _MARKS.search(data) is not None


def guard(export: Export, redactor: Redactor | None) -> Export:
    """The export, its request without what may not be kept. Pure but for the export itself."""
    if export.kept and (redactor is not None or may_hold_secrets(export.request)):
        groups = otlp_request.split(export.request)
        marks: dict[int, Mapping[str, int]] = {}
        changed = redactor is not None  # what is around the spans goes with them then
        place = 0
        for group in groups:
            resource = _Redaction(redactor)
            group.head = resource.part(ResourceSpans, group.head, resource.resource)
            for scope in group.scopes:
                shared = _Redaction(redactor, resource.counts)
                scope.head = shared.part(ScopeSpans, scope.head, shared.scope)
                for number, data in enumerate(scope.spans):
                    span = _Redaction(redactor, shared.counts)
                    scope.spans[number] = span.part(SpanMessage, data, span.span)
                    changed |= span.changed
                    marks[place] = span.counts
                    place += 1
                changed |= shared.changed
            changed |= resource.changed
        if changed:
            export.request = otlp_request.joined(groups)
        export.redacted = {at: dict(counts) for at, counts in marks.items() if counts}
    return export


class _Redaction:
    """Of one message. `counts` begins with those of what the message is in; `changed` says
    whether it is another now."""

    def __init__(self, redactor: Redactor | None, counts: Mapping[str, int] | None = None) -> None:
        self.counts: Counter[str] = Counter(counts or {})
        self._redactor = redactor
        self.changed = False

    def part(self, kind: type[_Message], data: bytes, redact: Callable[[_Message], None]) -> bytes:
        """The message's bytes, redacted; the same where nothing was touched."""
        if self._redactor is None and not may_hold_secrets(data):
            return data
        message = kind.FromString(data)
        redact(message)
        if self._redactor is not None:
            message.DiscardUnknownFields()  # of a later protocol: nobody can say what they hold
            self.changed |= message.ByteSize() != len(data)
        return message.SerializeToString() if self.changed else data

    def resource(self, message: ResourceSpans) -> None:
        """What a resource says of itself."""
        self._attributes(message.resource.attributes, content_names.is_content_of_resource)
        self._fields(message, "schema_url")

    def scope(self, message: ScopeSpans) -> None:
        """What a scope says of itself."""
        self._attributes(message.scope.attributes)
        self._fields(message.scope, "name", "version")
        self._fields(message, "schema_url")

    def span(self, message: SpanMessage) -> None:
        """A span, its events and links."""
        self._attributes(message.attributes)
        for event in message.events:
            self._attributes(event.attributes)
            self._fields(event, "name")
        for link in message.links:
            self._attributes(link.attributes)
            self._fields(link, "trace_state")
        self._fields(message, "name", "trace_state")
        if self._redactor is not None and message.status.message:
            if not self._redactor.keeps_content:
                self._drop_status(message)
            else:
                self._fields(message.status, "message")

    def _drop_status(self, message: SpanMessage) -> None:
        message.status.message = ""
        self.counts[CONTENT] += 1
        self.changed = True

    def _fields(self, message: Any, *names: str) -> None:
        if self._redactor is None:
            return
        for name in names:
            given = getattr(message, name)
            told = self._redactor.text(given, self.counts) if given else given
            if told is not given:
                setattr(message, name, told)
                self.changed = True

    def _attributes(
        self,
        pairs: Attributes,
        is_content: Callable[[str], bool] = content_names.is_content_attribute,
    ) -> None:
        for number in reversed(range(len(pairs))):
            if not self._attribute(pairs[number], is_content):
                del pairs[number]
                self.changed = True
        self._metadata(pairs)

    def _attribute(self, pair: KeyValue, is_content: Callable[[str], bool]) -> bool:
        """Whether the attribute stays; it may be another then."""
        name = pair.key
        if litellm_secrets.is_secret_attribute(name) or litellm_secrets.is_secret(name):
            return False
        redactor = self._redactor
        if redactor is None:
            self._without_secrets(pair.value)
            return True
        if content_names.is_fixed_attribute(name):
            return True
        rule = redactor.rule_of(name)
        if rule:
            self._replace(pair.value, rule)
            return True
        if not redactor.keeps_content and is_content(name) and not self._keeps_numbers(pair):
            self.counts[CONTENT] += 1
            return False
        self._without_secrets(pair.value)
        if not content_names.is_personal_attribute(name):
            self._value(redactor, pair.value)
        if not content_names.is_known_attribute(name):
            self._name(redactor, pair)
        return True

    def _keeps_numbers(self, pair: KeyValue) -> bool:
        """Whether something of a content attribute stays: a number, or an object's numbers."""
        kind = pair.value.WhichOneof("value")
        if kind not in _LARGE:
            return True
        if kind != "string_value" or pair.key not in _NUMBERS_OF:
            return False
        numbers = content_names.numbers_of(pair.value.string_value)
        if numbers is None:
            return False
        told = orjson.dumps(numbers).decode()
        if told != pair.value.string_value:
            pair.value.string_value = told
            self.counts[CONTENT] += 1
            self.changed = True
        return True

    def _metadata(self, pairs: Attributes) -> None:
        """LiteLLM's metadata as JSON text: its records of keys go."""
        for pair in pairs:
            text = pair.value.string_value
            if pair.key == "metadata" and text and may_hold_secrets(text.encode()):
                told = litellm_secrets.without_secrets(text)
                if told != text:
                    pair.value.string_value = told
                    self.changed = True

    def _without_secrets(self, value: AnyValue) -> None:
        """Take the secret members out of an object."""
        for inner in value.array_value.values:
            self._without_secrets(inner)
        members: Attributes = value.kvlist_value.values
        for number in reversed(range(len(members))):
            if litellm_secrets.is_secret(members[number].key):
                del members[number]
                self.changed = True
            else:
                self._without_secrets(members[number].value)

    def _value(self, redactor: Redactor, value: AnyValue) -> None:
        kind = value.WhichOneof("value")
        if kind == "string_value":
            told = redactor.text(value.string_value, self.counts)
            if told != value.string_value:
                value.string_value = told
                self.changed = True
        elif kind == "bytes_value":
            self._bytes(redactor, value)
        elif kind == "array_value":
            for item in value.array_value.values:
                self._value(redactor, item)
        elif kind == "kvlist_value":
            self._members(redactor, value.kvlist_value.values)

    def _members(self, redactor: Redactor, members: Iterable[KeyValue]) -> None:
        for member in members:
            rule = redactor.rule_of(member.key)
            if rule:
                self._replace(member.value, rule)
            else:
                self._value(redactor, member.value)
                self._name(redactor, member)

    def _bytes(self, redactor: Redactor, value: AnyValue) -> None:
        try:
            text = value.bytes_value.decode()
        except UnicodeDecodeError:
            return  # binary
        told = redactor.text(text, self.counts)
        if told is not text:
            value.bytes_value = told.encode()
            self.changed = True

    def _name(self, redactor: Redactor, pair: KeyValue) -> None:
        told = redactor.name(pair.key, self.counts)
        if told != pair.key:
            pair.key = told
            self.changed = True

    def _replace(self, value: AnyValue, rule: str) -> None:
        if value.WhichOneof("value") is None or value.string_value == replacement(rule):
            return
        value.string_value = replacement(rule)
        self.counts[rule] += 1
        self.changed = True
