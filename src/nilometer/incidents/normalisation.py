"""Normalisation: what a pack reads of an exception as it was raised, with what is never kept taken
out. Pure: the same exception gives the same reading, fingerprint and redacted places."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final, cast

import orjson

from nilometer.domain.redaction.redactor import Redactor, redactor_of
from nilometer.domain.redaction.rules import CONTENT, RedactionRules, replacement
from nilometer.incidents.expressions import NotEvaluable, View, expression, view
from nilometer.incidents.facts import NOT_TRIAGED, ExceptionFacts, Facts
from nilometer.incidents.incident import ActorKind, NewException, Severity
from nilometer.incidents.packs.pack import ExceptionType, Pack

MAX_ENTITY = 500
MAX_AMOUNT = Decimal(10) ** 18
_BY_PATH: Final = "path"
_BY_NUMBER: Final = "credit_card"
_MAX_WORD: Final = 200
_PLACES = 18


@dataclass(frozen=True, slots=True)
class Normalised:
    """An exception as the pack reads it.

    `severity` is the sender's, None where it is not one of ours; `payload` is redacted, and
    `redacted` has the places, as `payload.customer.email`. `fingerprint` is the same for exceptions
    that are the same within `window_seconds`, None where the pack tells none apart. `sla_seconds`
    is what the deadline is until triage says how severe it is (`sla_seconds_of`).
    """

    type: str
    source_system: str
    severity: Severity | None
    domain: str | None
    entity: str | None
    amount: Decimal | None
    occurred_at: datetime
    payload: dict[str, Any] = field(repr=False)
    raised_by: ActorKind
    redacted: tuple[str, ...]
    fingerprint: str | None
    window_seconds: int | None
    sla_seconds: int | None

    def facts(self) -> ExceptionFacts:
        """The part of the fact document that it is."""
        return {
            "type": self.type,
            "source_system": self.source_system,
            "severity": None if self.severity is None else self.severity.value,
            "domain": self.domain,
            "entity": self.entity,
            "amount": None if self.amount is None else format(self.amount, "f"),
            "occurred_at": _moment(self.occurred_at),
            "payload": self.payload,
            "raised_by": {"kind": self.raised_by.value},
        }


def normalise(
    pack: Pack,
    raised: NewException,
    *,
    project_id: int,
    now: datetime,
    rules: RedactionRules | None = None,
    raised_by: ActorKind = ActorKind.KEY,
) -> Normalised:
    """Read an exception. `now` is when it was accepted, and when it happened unless it says;
    `rules` are the project's own of what is never kept, besides the pack's."""
    known = pack.type_named(raised.exception_type)
    kind = raised.exception_type if known is None else known.type
    severity = _severity(raised.severity)
    occurred_at = raised.occurred_at or now
    domain = raised.domain or pack.domain
    first = _first_facts(raised, raised_by, kind, severity, domain, occurred_at, project_id)
    seen = view(first)
    entity = _entity(pack, known, seen)
    payload, redacted = _redacted(pack, raised.payload, rules)
    level = severity or (known.severity if known is not None else None) or Severity.MEDIUM
    window = pack.normalisation.fingerprint
    return Normalised(
        type=kind,
        source_system=raised.source_system,
        severity=severity,
        domain=domain,
        entity=_clean(entity, pack, rules),
        amount=_amount(pack, known, seen),
        occurred_at=occurred_at,
        payload=payload,
        raised_by=raised_by,
        redacted=redacted,
        fingerprint=_fingerprint(pack, kind, first, entity),
        window_seconds=None if window is None else window.window_seconds,
        sla_seconds=sla_seconds_of(pack, kind, level, project_id),
    )


def sla_seconds_of(pack: Pack, kind: str, severity: Severity, project_id: int) -> int | None:
    """In how long an incident is to be done, None where nothing says. First comes the tenant's own
    for the severity, then the type's, then the pack's for the severity."""
    override = pack.override(project_id)
    own = None if override is None else override.sla_seconds.get(severity)
    known = pack.type_named(kind)
    of_type = None if known is None else known.sla_seconds
    return own or of_type or pack.normalisation.sla_seconds.get(severity)


def _severity(stated: str | None) -> Severity | None:
    text = (stated or "").strip().lower()
    return Severity(text) if text in set(Severity) else None


def _first_facts(
    raised: NewException,
    raised_by: ActorKind,
    kind: str,
    severity: Severity | None,
    domain: str | None,
    occurred_at: datetime,
    project_id: int,
) -> Facts:
    """What the expressions of this stage see: the payload whole, for an entity or a fingerprint may
    be of what is not kept."""
    return {
        "exception": {
            "type": kind,
            "source_system": raised.source_system,
            "severity": None if severity is None else severity.value,
            "domain": domain,
            "entity": None,
            "amount": None,
            "occurred_at": _moment(occurred_at),
            "payload": raised.payload,
            "raised_by": {"kind": raised_by.value},
        },
        "incident": {"id": "", "age_seconds": 0, "sla_seconds_left": None, "attempts": 0},
        "triage": NOT_TRIAGED,
        "steps": {},
        "tenant": {"id": project_id},
    }


def _value(text: str | None, seen: View) -> Any:
    """Of an expression, None where it has none for this exception."""
    if text is None:
        return None
    try:
        return expression(text).value(seen)
    except NotEvaluable:
        return None


def _entity(pack: Pack, known: ExceptionType | None, seen: View) -> str | None:
    own = None if known is None else known.entity
    value = _value(own or pack.normalisation.entity, seen)
    if value is None or isinstance(value, list | dict):
        return None
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return text[:MAX_ENTITY] or None


def _clean(entity: str | None, pack: Pack, rules: RedactionRules | None) -> str | None:
    if entity is None:
        return None
    for redactor in _redactors(pack, rules):
        entity = redactor.text(entity, Counter())
    return entity[:MAX_ENTITY]


def _amount(pack: Pack, known: ExceptionType | None, seen: View) -> Decimal | None:
    own = None if known is None else known.amount
    value = _value(own or pack.normalisation.amount, seen)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        amount = Decimal(str(value).strip())
    except InvalidOperation:
        return None
    exponent = amount.as_tuple().exponent
    fits = isinstance(exponent, int) and exponent >= -_PLACES and abs(amount) < MAX_AMOUNT
    return amount if fits else None


def _fingerprint(pack: Pack, kind: str, facts: Facts, entity: str | None) -> str | None:
    """None as well where no field has a value: nothing then says that two are the same. What a key
    says is never the same as what a rule measured, which it could otherwise hide."""
    wanted = pack.normalisation.fingerprint
    if wanted is None:
        return None
    seen = view({**facts, "exception": {**facts["exception"], "entity": entity}})
    values = [_value(text, seen) for text in wanted.fields]
    if all(value is None for value in values):
        return None
    raised_by = facts["exception"]["raised_by"]["kind"]
    told = orjson.dumps([pack.name, kind, raised_by, *values], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(told).hexdigest()


def _redactors(pack: Pack, rules: RedactionRules | None) -> list[Redactor]:
    both = (rules, pack.normalisation.redaction.read)
    return [redactor_of(each) for each in both if each is not None]


def _redacted(
    pack: Pack, payload: Mapping[str, Any], rules: RedactionRules | None
) -> tuple[dict[str, Any], tuple[str, ...]]:
    redactors = _redactors(pack, rules)
    paths = [path.split(".") for path in pack.normalisation.redaction.paths]
    places: list[str] = []
    if not redactors and not paths:
        return dict(payload), ()
    clean = _Redaction(redactors, places).value(payload, "payload", paths)
    return cast("dict[str, Any]", clean), tuple(places)


class _Redaction:
    """One payload gone through once. `places` collects where something was taken out."""

    def __init__(self, redactors: list[Redactor], places: list[str]) -> None:
        self._redactors = redactors
        self._places = places

    def value(self, value: Any, at: str, paths: list[list[str]]) -> Any:
        """A value without what is never kept; `paths` are those that lead on from here."""
        if isinstance(value, Mapping):
            members = cast("Mapping[str, Any]", value).items()
            return dict(self._member(name, each, at, paths) for name, each in members)
        if isinstance(value, list | tuple):
            elements = enumerate(cast("list[Any]", value))
            return [self._below(str(place), each, at, paths) for place, each in elements]
        if isinstance(value, str):
            return self._content(value, at)
        is_number = isinstance(value, int) and not isinstance(value, bool)
        if is_number and self._text(str(value), at) != str(value):  # a card's
            return replacement(_BY_NUMBER)
        return value

    def _content(self, text: str, at: str) -> str:
        """A value that is text. Where no content is kept, only names and ids stay: single words."""
        is_word = len(text) <= _MAX_WORD and not any(each.isspace() for each in text)
        if is_word or all(redactor.keeps_content for redactor in self._redactors):
            return self._text(text, at)
        self._places.append(at)
        return replacement(CONTENT)

    def _member(self, name: str, value: Any, at: str, paths: list[list[str]]) -> tuple[str, Any]:
        for redactor in self._redactors:
            rule = redactor.rule_of(name)
            if rule:
                self._places.append(f"{at}.{name}")
                return name, replacement(rule)
        return self._name(name, at), self._below(name, value, at, paths)

    def _below(self, name: str, value: Any, at: str, paths: list[list[str]]) -> Any:
        leading = [path[1:] for path in paths if path[0] in (name, "*")]
        here = f"{at}.{name}"
        if any(not path for path in leading):
            self._places.append(here)
            return replacement(_BY_PATH)
        return self.value(value, here, leading)

    def _name(self, name: str, at: str) -> str:
        clean = name
        for redactor in self._redactors:
            clean = redactor.name(clean, Counter())
        if clean != name:
            self._places.append(at)
        return clean

    def _text(self, text: str, at: str) -> str:
        clean = text
        for redactor in self._redactors:
            clean = redactor.text(clean, Counter())
        if clean != text:
            self._places.append(at)
        return clean


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
