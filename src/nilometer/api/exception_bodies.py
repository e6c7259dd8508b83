"""The body of `POST /exceptions`: one exception, or many with a result each.

The names are those of the contract in camel case or in snake case (`exceptionType`,
`exception_type`). A name that nobody knows is refused, as everywhere in this API. What a payload
holds must come out again as it went in, so numbers that JSON readers do not keep (RFC 7493,
section 2.2) and NUL, which no database holds, are refused, with the place where they stand. What
else an exception must be, `accept.check` says, of each one for itself: one that cannot be accepted
keeps no other back.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from nilometer.domain import clock, json_text
from nilometer.errors import InvalidInput
from nilometer.incidents import accept
from nilometer.incidents.incident import NewException, Severity
from nilometer.incidents.tables import NAME_LENGTH
from nilometer.query import times

MAX_EXCEPTIONS = 1000
"""Of one request."""
MAX_EXCEPTION_BYTES = accept.MAX_PAYLOAD_BYTES
"""Of the payload of one exception, as JSON without spaces."""
MAX_NAME = NAME_LENGTH
MAX_IDEMPOTENCY_KEY = 255

_CAMEL = re.compile(r"(?<!^)([A-Z])")
_NAMES = ("exception_type", "source_system", "severity", "occurred_at", "domain", "payload")
# Members that stand beside the exceptions. The contract's clients say how they send
# (`ingestion_method`), which the door knows; the key, where it came, was read before.
_AROUND = frozenset({"source_system", "ingestion_method", "personal_api_key"})
_INTEGERS = range(-(2**63), 2**64)
_PRINTABLE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")


@dataclass(frozen=True, slots=True)
class Raised:
    """What a body asks to be raised, in its order, each as it is or with what is wrong with it.
    `many` says that it came as a list, and is answered with one."""

    exceptions: tuple[NewException | InvalidInput, ...]
    many: bool

    @property
    def accepted(self) -> list[NewException]:
        """Those that can be."""
        return [each for each in self.exceptions if isinstance(each, NewException)]


def read(body: bytes) -> Raised:
    """The exceptions of a body. Raises InvalidInput for a body that is none, and for the one
    exception of a body without a list."""
    try:
        sent = json_text.loads(body)
    except json_text.InvalidJson as error:
        raise InvalidInput(f"The body is not JSON: {error}.", code="parse_error") from None
    if not isinstance(sent, dict):
        raise InvalidInput("The body must be a JSON object.", code="parse_error")
    fields = _known(cast("dict[str, Any]", sent), {*_NAMES, *_AROUND, "exception", "exceptions"})
    if "exceptions" in fields:
        return _many(fields)
    if "exception" in fields:
        return Raised((_wrapped(fields),), many=False)
    return Raised((_one(_without(fields, "ingestion_method", "personal_api_key")),), many=False)


def idempotency_key(values: list[str]) -> str | None:
    """The key of the header's values; None without one. Raises InvalidInput."""
    if not values:
        return None
    if len(values) > 1 or not _PRINTABLE.fullmatch(values[0]):
        raise InvalidInput(
            "Idempotency-Key must be sent once, in printable ASCII.", attr="Idempotency-Key"
        )
    if len(values[0]) > MAX_IDEMPOTENCY_KEY:
        raise InvalidInput(
            f"Idempotency-Key may have at most {MAX_IDEMPOTENCY_KEY} characters.",
            attr="Idempotency-Key",
        )
    return values[0]


def _many(fields: Mapping[str, Any]) -> Raised:
    _only(fields, "exceptions")
    items = fields["exceptions"]
    if not isinstance(items, list) or not items:
        raise InvalidInput("exceptions must be a list that holds some.", attr="exceptions")
    if len(cast("list[Any]", items)) > MAX_EXCEPTIONS:
        raise InvalidInput(
            f"A request may hold at most {MAX_EXCEPTIONS} exceptions.",
            code="too_many",
            attr="exceptions",
        )
    source = fields.get("source_system")
    return Raised(tuple(_item(each, source) for each in cast("list[Any]", items)), many=True)


def _wrapped(fields: Mapping[str, Any]) -> NewException:
    _only(fields, "exception")
    found = _item(fields["exception"], fields.get("source_system"))
    if isinstance(found, InvalidInput):
        raise found
    return found


def _only(fields: Mapping[str, Any], name: str) -> None:
    """Refuse what would be silently ignored beside `exception` or `exceptions`."""
    for other in fields:
        if other != name and other not in _AROUND:
            raise InvalidInput(f"{other} cannot stand beside {name}.", code="extra", attr=other)


def _item(sent: object, source: object) -> NewException | InvalidInput:
    if not isinstance(sent, dict):
        return InvalidInput("An exception must be a JSON object.")
    try:
        fields = _known(cast("dict[str, Any]", sent), set(_NAMES))
        return _one({"source_system": source, **fields} if source is not None else fields)
    except InvalidInput as error:
        return error


def _one(fields: Mapping[str, Any]) -> NewException:
    payload = fields.get("payload", {})
    if not isinstance(payload, dict):
        raise InvalidInput("payload must be a JSON object.", attr="payload")
    _check_values(cast("dict[str, Any]", payload))
    read = NewException(
        exception_type=_name(fields, "exception_type"),
        source_system=_name(fields, "source_system"),
        severity=_severity(fields.get("severity")),
        occurred_at=_moment(fields.get("occurred_at")),
        payload=cast("dict[str, Any]", payload),
        domain=None if fields.get("domain") is None else _name(fields, "domain"),
    )
    accept.check(read)
    return read


def _known(sent: Mapping[str, Any], names: set[str]) -> dict[str, Any]:
    """The members by their names in snake case."""
    fields: dict[str, Any] = {}
    for name, value in sent.items():
        own = _CAMEL.sub(lambda match: f"_{match[1].lower()}", name)
        if own not in names:
            shown = name if len(name) <= 64 else name[:61] + "..."
            raise InvalidInput(f"{shown!a} is not a member of an exception.", code="extra")
        if own in fields:
            raise InvalidInput(f"{own} is there twice.", attr=own)
        fields[own] = value
    return fields


def _without(fields: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in names}


def _name(fields: Mapping[str, Any], attr: str) -> str:
    value = fields.get(attr)
    if value is None:
        raise InvalidInput(f"{attr} is missing.", code="missing", attr=attr)
    if not isinstance(value, str) or not value.strip():
        raise InvalidInput(f"{attr} must be a text that is not empty.", attr=attr)
    return value.strip()


def _severity(value: object) -> Severity | None:
    if value is None:
        return None
    if isinstance(value, str) and value.lower() in frozenset(Severity):
        return Severity(value.lower())
    choices = ", ".join(Severity)
    raise InvalidInput(f"severity must be one of {choices}.", attr="severity")


def _moment(value: object) -> datetime | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise InvalidInput("occurred_at must be a text.", attr="occurred_at")
    return clock.from_micros(times.parse(value, attr="occurred_at"))


def _check_values(payload: dict[str, Any]) -> None:
    for path, value in _leaves(payload):
        fault = _fault(value)
        if fault:
            raise InvalidInput(f"{path} {fault}.", attr=path)


def _leaves(payload: dict[str, Any]) -> Iterator[tuple[str, object]]:
    """Every name and every value that is no object or list, with where it stands."""
    waiting: list[tuple[str, Any]] = [("payload", payload)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, dict):
            for name, inner in cast("dict[str, Any]", value).items():
                yield path, name
                waiting.append((f"{path}.{name[:64]}", inner))
        elif isinstance(value, list):
            waiting += ((f"{path}.{i}", each) for i, each in enumerate(cast("list[Any]", value)))
        else:
            yield path, value


def _fault(value: object) -> str:
    if isinstance(value, str):
        return "holds NUL, which cannot be kept" if "\0" in value else ""
    if isinstance(value, float):
        return "" if math.isfinite(value) else "is a number too large to be kept"
    # `True` is an int, and in the range.
    if isinstance(value, int) and value not in _INTEGERS:
        return "is an integer of more than 64 bits; send it as a text"
    return ""
