"""One event of PostHog's JSON protocols: found in the body, checked, and without its key."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from nilometer.capture.ai_event import check_ai_name, check_distinct_id
from nilometer.capture.refusals import InvalidEvent, ParsingFault, Refusal, TooBig
from nilometer.conventions import litellm
from nilometer.conventions.litellm_secrets import is_secret_property
from nilometer.domain import json_text, posthog_event
from nilometer.domain.identity import canonical_uuid
from nilometer.domain.json_walk import JsonWalk
from nilometer.domain.posthog_event import KEY_FIELDS

MAX_NAME_CHARS = 1024


@dataclass(frozen=True, slots=True)
class EventRules:
    """What a path asks of its events. `engage` takes updates of persons, which have no name;
    `ai_only` the six AI event types and no others. Sizes are bytes of the event's text."""

    max_event: int
    max_events: int
    ai_only: bool = False
    engage: bool = False


@dataclass(slots=True)
class Members:
    """The members of an object in the body: their values, and their texts as they were sent."""

    fields: dict[str, Any] = field(default_factory=dict[str, Any])
    texts: dict[str, str] = field(default_factory=dict[str, str])

    def take(self, walk: JsonWalk, name: str) -> None:
        """The member whose value stands there."""
        self.fields[name], self.texts[name] = walk.value()


@dataclass(slots=True)
class SentEvent:
    """An event as it came. `uuid` is canonical, "" where the client sent none, and `sent_uuid` what
    it sent. `fault` says why it cannot be accepted; its other values may be empty then. `token` is
    its own key."""

    text: str
    uuid: str = ""
    sent_uuid: str = ""
    distinct_id: str = ""
    internal: bool = False
    token: str | None = None
    fault: Refusal | None = None
    key_properties: dict[str, str] = field(default_factory=dict[str, str])
    secret_properties: frozenset[str] = frozenset()

    def without_key(self, token: str) -> bytes:
        """The event's text; left out are the properties that repeat this key, and LiteLLM's records
        of its keys, headers and addresses."""
        named = {name for name, value in self.key_properties.items() if value == token}
        named |= self.secret_properties
        return (_without_properties(self.text, named) if named else self.text).encode()


def read_members(walk: JsonWalk) -> Members:
    """The object that stands there. Raises ParsingFault for another value, and InvalidJson."""
    if walk.begins() != "{":
        raise ParsingFault("an event must be a JSON object", code="invalid_event")
    members = Members()
    for name in walk.members():
        members.take(walk, name)
    return members


def sent_event(members: Members, text: str, rules: EventRules) -> SentEvent:
    """The event that an object is, `text` being the object's. Never raises: an event that cannot
    be accepted says so itself, because whose it is comes first."""
    kept = {name: value for name, value in members.texts.items() if name not in KEY_FIELDS}
    if len(kept) < len(members.texts):
        text = json_text.with_members("{}", kept)
    event = SentEvent(text)
    fields = members.fields
    try:
        properties = _properties(fields)
        event.key_properties = _strings(properties, KEY_FIELDS)
        event.token = _own_key(fields, event.key_properties)
        if any(mark in properties for mark in litellm.POSTHOG_MARKS):
            event.secret_properties = frozenset(filter(is_secret_property, properties))
        _fill(event, fields, properties, rules)
    except Refusal as fault:
        event.token = event.token or _own_key(fields, {})
        event.fault = fault
    return event


def _fill(
    event: SentEvent, fields: dict[str, Any], properties: dict[str, Any], rules: EventRules
) -> None:
    uuid = fields.get("uuid")
    event.sent_uuid = uuid.strip() if isinstance(uuid, str) else ""
    if len(event.text) > rules.max_event or len(event.text.encode()) > rules.max_event:
        raise TooBig(f"an event has more than {rules.max_event} bytes")
    event.uuid = _uuid(uuid, event.sent_uuid)
    _check_name(posthog_event.name_of(fields, engage=rules.engage), rules)
    event.distinct_id = posthog_event.distinct_id_of(fields, properties)
    if not event.distinct_id:
        raise InvalidEvent(
            "event submitted without a distinct_id", code="missing_field", attr="distinct_id"
        )
    check_distinct_id(event.distinct_id)
    event.internal = "capture_internal" in properties


def _properties(fields: dict[str, Any]) -> dict[str, Any]:
    try:
        return posthog_event.properties_of(fields)
    except TypeError:
        raise ParsingFault(
            "Event 'properties' must be a JSON object", code="invalid_properties", attr="properties"
        ) from None


def _check_name(name: str, rules: EventRules) -> None:
    if not name:
        raise InvalidEvent(
            "event submitted with an empty event name", code="invalid_event_name", attr="event"
        )
    if len(name) > MAX_NAME_CHARS:
        raise ParsingFault(
            f"an event's name has at most {MAX_NAME_CHARS} characters",
            code="invalid_event_name",
            attr="event",
        )
    if rules.ai_only:
        check_ai_name(name)


def _uuid(value: Any, text: str) -> str:
    if value is None or value == "":
        return ""
    try:
        return canonical_uuid(text)
    except ValueError as error:
        raise ParsingFault(
            f"Invalid UUID format: {error}", code="invalid_uuid", attr="uuid"
        ) from None


def _own_key(fields: dict[str, Any], key_properties: dict[str, str]) -> str | None:
    own = _strings(fields, KEY_FIELDS)
    return next(iter(own.values()), key_properties.get("token"))


def _strings(holder: dict[str, Any], names: Collection[str]) -> dict[str, str]:
    return {name: holder[name] for name in names if isinstance(holder.get(name), str)}


def _without_properties(text: str, names: Collection[str]) -> str:
    members = json_text.members(text)
    members["properties"] = json_text.without_members(members["properties"], names)
    return json_text.with_members("{}", members)
