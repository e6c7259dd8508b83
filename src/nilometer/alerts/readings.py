"""What a rule measures now, read from the store and the database within its project."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import TypeVar

from sqlalchemy import func, select

from nilometer.access.tables import ApiKey
from nilometer.alerts.condition import Reading, breaks
from nilometer.alerts.failures import BLOBS, failed
from nilometer.alerts.kinds import Kind, Source
from nilometer.alerts.rule import AlertRule
from nilometer.alerts.rules import StoredRule
from nilometer.alerts.tables import AlertRow
from nilometer.budgets.budget import plain
from nilometer.database.engine import Database
from nilometer.database.fence import rows_of_project
from nilometer.domain import clock
from nilometer.pipeline.dead_letters import DeadLetterRow
from nilometer.query.beyond import Beyond, Number
from nilometer.query.measures import Calls, Measures, Scores, Sighting, Values

MAX_REASONS = 5
MAX_OPEN = 100
"""Of so many values a rule tells at once, one by one; all others are one alert."""
MAX_REVOKED = 1000
"""Of so many of its revoked keys a project hears nothing where they are seen."""
FOREIGN = "key of another service"
"""The subject of keys that are not the project's own."""
OTHERS = "others"
"""The subject of all values beyond `MAX_OPEN`."""
_OTHERS_DIGESTS = {
    Reading(OTHERS, Decimal(0), 0, of_others=True, late=late).digest for late in (False, True)
}

_Measured = TypeVar("_Measured", Calls, Scores)
_Read = Callable[[StoredRule, datetime, datetime], Sequence[Reading]]


class Readings:
    """Reads what rules with a condition measure. Raises DatabaseUnavailable and the store's
    errors."""

    def __init__(self, measures: Measures, database: Database) -> None:
        self._measures = measures
        self._database = database
        self._of: Mapping[Source, _Read] = {
            Source.CALLS: self._calls,
            Source.SCORES: self._scores,
            Source.CONTENT: self._keys,
            Source.DEAD_LETTERS: self._dead_letters,
            Source.FAILURES: self._failed,
        }

    def of(self, stored: StoredRule, now: datetime) -> Sequence[Reading]:
        """One reading, or one of each value that the rule tells apart; none of one without a
        condition."""
        rule = stored.rule
        if rule.condition is None:
            return ()
        start = now - rule.condition.window
        if rule.kind is Kind.MISSING_TRAFFIC and start < stored.created_at:
            return ()  # nobody expected calls then
        return self._of[rule.measure.source](stored, start, now)

    def _calls(self, stored: StoredRule, start: datetime, end: datetime) -> Sequence[Reading]:
        project_id, rule = stored.project_id, stored.rule
        read = _READ[rule.kind]
        of_window = _told_of(read)
        if rule.each is None:
            found = self._measures.calls(project_id, start, end, rule.named)
            return _worst(rule, found, of_window)
        each = self._measures.calls_of_each(
            project_id, start, end, rule.named, rule.each, self._beyond(stored)
        )
        return _readings(rule.each, each, of_window)

    def _scores(self, stored: StoredRule, start: datetime, end: datetime) -> Sequence[Reading]:
        project_id, rule = stored.project_id, stored.rule
        of_window = _told_of(_mean)
        if rule.each is None:
            found = self._measures.scores(project_id, start, end, rule.named)
            return _worst(rule, found, of_window)
        each = self._measures.scores_of_each(
            project_id, start, end, rule.named, rule.each, self._beyond(stored)
        )
        return _readings(rule.each, each, of_window)

    def _beyond(self, stored: StoredRule) -> Beyond:
        """What of each value is of interest: what breaks the rule, and what became of those of
        which it is told that they do."""
        rule = stored.rule
        assert rule.condition is not None, "it has been asked"
        is_open = (AlertRow.rule_id == rule.id) & AlertRow.recovered_at.is_(None)
        with self._database.read(rows_of_project(stored.project_id)) as session:
            query = select(AlertRow.subject_digest).where(is_open)
            told = [digest for digest in session.scalars(query) if digest not in _OTHERS_DIGESTS]
        return Beyond(
            number=_NUMBERS[rule.kind],
            threshold=rule.condition.threshold,
            least=rule.condition.min_calls,
            most=max(0, MAX_OPEN - len(told)),
            besides=told,
        )

    def _keys(self, stored: StoredRule, start: datetime, end: datetime) -> Sequence[Reading]:
        """One reading of each live key of the project's own that was seen, which can be revoked,
        and one of all others. A revoked one lets nobody in, and is none of them."""
        live, revoked = self._own_keys(stored.project_id)
        seen = self._measures.keys(stored.project_id, start, end, live, revoked)
        return [_key_reading(each, live.get(each.digest)) for each in seen]

    def _own_keys(self, project_id: int) -> tuple[dict[str, ApiKey], list[str]]:
        """The project's own keys: the live ones by their digests, and the digests of those that
        were revoked last."""
        mine = select(ApiKey).where(ApiKey.project_id == project_id)
        revoked = (
            select(ApiKey.token_hash)
            .where(ApiKey.project_id == project_id, ApiKey.revoked_at.is_not(None))
            .order_by(ApiKey.revoked_at.desc())
            .limit(MAX_REVOKED)
        )
        with self._database.read(rows_of_project(project_id)) as session:
            live = session.scalars(mine.where(ApiKey.revoked_at.is_(None)))
            return {row.token_hash: row for row in live}, list(session.scalars(revoked))

    def _dead_letters(
        self, stored: StoredRule, start: datetime, end: datetime
    ) -> Sequence[Reading]:
        project_id = stored.project_id
        query = (
            select(DeadLetterRow.reason, func.count())
            .where(
                DeadLetterRow.project_id == project_id,
                DeadLetterRow.created_at >= start,
                DeadLetterRow.created_at < end,
            )
            .group_by(DeadLetterRow.reason)
        )
        with self._database.read(rows_of_project(project_id)) as session:
            counts: dict[str, int] = {row[0]: row[1] for row in session.execute(query)}
        most = sorted(counts, key=lambda reason: (-counts[reason], reason))[:MAX_REASONS]
        facts = {"reasons": ", ".join(f"{each} ({counts[each]})" for each in most)} if most else {}
        if len(counts) == 1:
            facts["reason"] = most[0]
        return [_counted(sum(counts.values()), facts)]

    def _failed(self, stored: StoredRule, start: datetime, end: datetime) -> Sequence[Reading]:
        del end
        return [_counted(failed(self._database, stored.project_id, BLOBS, start), {})]


def _counted(count: int, facts: Mapping[str, str]) -> Reading:
    return Reading("", Decimal(count), count, facts)


def _key_reading(seen: Sighting, key: ApiKey | None) -> Reading:
    """Of a key of the project's own, or, without one, of all others."""
    facts = {
        "key_id": key.id if key else "",
        "key": key.mask if key else "",
        "event_uuid": seen.uuid,
        "trace_id": seen.trace_id,
        "redacted": "yes" if seen.redacted else "",
    }
    told = {name: value for name, value in facts.items() if value}
    return Reading(key.id if key else FOREIGN, Decimal(seen.events), seen.events, told)


def _told_of(read: Callable[[_Measured], Reading]) -> Callable[[_Measured], Reading]:
    """Reads what was measured, and says of which window it is where that is an earlier one."""

    def told(measured: _Measured) -> Reading:
        reading = read(measured)
        if not measured.began:
            return reading
        late_of = clock.from_micros(measured.began).isoformat()
        return replace(reading, facts={**reading.facts, "late_of": late_of}, late=True)

    return told


def _worst(
    rule: AlertRule, found: Sequence[_Measured], read: Callable[[_Measured], Reading]
) -> list[Reading]:
    """The reading of the window itself, if there is any, and beside it the worst of what came late
    that breaks the rule. What is missing comes late, and is not missing less for it."""
    readings = [read(each) for each in found]
    now = [each for each in readings if not each.late]
    if rule.kind is Kind.MISSING_TRAFFIC:
        return now
    late = [each for each in readings if each.late and breaks(rule, each)]
    order = min if rule.measure.below else max
    return [*now, order(late, key=lambda each: each.measured)] if late else now


def _readings(
    dimension: str, parts: Sequence[Values[_Measured]], read: Callable[[_Measured], Reading]
) -> list[Reading]:
    """One of each value, and one of those that are left out: how many, and the furthest. So of
    what came in time, and so of what came late."""
    readings: list[Reading] = []
    for values in parts:
        readings += [read(each) for each in values.found]
        if values.furthest is None:
            continue
        furthest = read(values.furthest)
        facts = {**furthest.facts, dimension: furthest.subject, "others": str(values.left_out)}
        readings.append(replace(furthest, subject=OTHERS, facts=facts, of_others=True))
    return readings


def _mean(scores: Scores) -> Reading:
    return Reading(scores.value, scores.mean, scores.count)


def _spend(calls: Calls) -> Reading:
    return Reading(calls.value, calls.cost, calls.calls, _unpriced(calls))


def _cost_per_call(calls: Calls) -> Reading:
    mean = calls.cost / calls.priced if calls.priced else Decimal(0)
    return Reading(calls.value, _rounded(mean), calls.priced, _unpriced(calls))


def _error_rate(calls: Calls) -> Reading:
    share = Decimal(calls.errors) / calls.calls if calls.calls else Decimal(0)
    return Reading(calls.value, _rounded(share), calls.calls, {"errors": str(calls.errors)})


def _latency(calls: Calls) -> Reading:
    return Reading(calls.value, _rounded(Decimal(str(calls.p95 or 0))), calls.timed)


def _traffic(calls: Calls) -> Reading:
    return Reading(calls.value, Decimal(calls.calls), calls.calls)


_NUMBERS: Mapping[Kind, Number] = {
    Kind.SPEND: Number.COST,
    Kind.COST_PER_CALL: Number.COST_PER_CALL,
    Kind.ERROR_RATE: Number.ERROR_RATE,
    Kind.LATENCY_P95: Number.LATENCY_P95,
    Kind.QUALITY: Number.MEAN,
}
_READ: Mapping[Kind, Callable[[Calls], Reading]] = {
    Kind.SPEND: _spend,
    Kind.COST_PER_CALL: _cost_per_call,
    Kind.ERROR_RATE: _error_rate,
    Kind.LATENCY_P95: _latency,
    Kind.MISSING_TRAFFIC: _traffic,
}


def _unpriced(calls: Calls) -> dict[str, str]:
    unpriced = calls.calls - calls.priced
    return {"unpriced_calls": str(unpriced)} if unpriced else {}


_FINEST = Decimal("1e-12")


def _rounded(value: Decimal) -> Decimal:
    """A quotient, which has no end: to be compared and shown, no amount."""
    return Decimal(plain(value.quantize(_FINEST)))
