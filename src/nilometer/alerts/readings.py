"""What a rule measures now, read from the store and the database within its project."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal

from sqlalchemy import func, select

from nilometer.access import tokens
from nilometer.access.tables import ApiKey
from nilometer.alerts.condition import Reading
from nilometer.alerts.failures import BLOBS, failed
from nilometer.alerts.kinds import Kind, Source
from nilometer.alerts.rule import AlertRule
from nilometer.alerts.rules import StoredRule
from nilometer.budgets.budget import plain
from nilometer.database.engine import Database
from nilometer.database.fence import rows_of_project
from nilometer.pipeline.dead_letters import DeadLetterRow
from nilometer.query.measures import Calls, Measures, Sighting

MAX_REASONS = 5
FOREIGN = "key of another service"
"""The subject of keys that are not the project's own."""

_Read = Callable[[int, AlertRule, datetime, datetime], Sequence[Reading]]


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
        return self._of[rule.measure.source](stored.project_id, rule, start, now)

    def _calls(
        self, project_id: int, rule: AlertRule, start: datetime, end: datetime
    ) -> Sequence[Reading]:
        found = self._measures.calls(project_id, start, end, rule.named, rule.each)
        return [_READ[rule.kind](each) for each in found]

    def _scores(
        self, project_id: int, rule: AlertRule, start: datetime, end: datetime
    ) -> Sequence[Reading]:
        found = self._measures.scores(project_id, start, end, rule.named, rule.each)
        return [Reading(each.value, each.mean, each.count) for each in found]

    def _keys(
        self, project_id: int, rule: AlertRule, start: datetime, end: datetime
    ) -> Sequence[Reading]:
        """One reading of each live key of the project's own that was seen, which can be revoked,
        and one of all others."""
        del rule
        seen = self._measures.keys(project_id, start, end)
        own = self._own_keys(project_id, {key for each in seen for key in each.keys})
        by_subject: dict[str, list[Sighting]] = {}
        for each in seen:
            subjects = {own.get(key, ("", "", FOREIGN))[2] for key in each.keys}
            if each.redacted:
                subjects.add(FOREIGN)
            for subject in subjects:
                by_subject.setdefault(subject, []).append(each)
        facts = {subject: {"key_id": key_id, "key": mask} for key_id, mask, subject in own.values()}
        return [
            Reading(
                subject,
                Decimal(len(found)),
                len(found),
                facts.get(subject, {}) | _last_seen(found[-1]),
            )
            for subject, found in by_subject.items()
            if subject
        ]

    def _own_keys(self, project_id: int, keys: set[str]) -> dict[str, tuple[str, str, str]]:
        """By key, its id, what is shown of it and its subject: of the project's own keys. The
        subject of a revoked one is "", as it lets nobody in."""
        digests = {tokens.digest(key): key for key in keys if tokens.is_issued_shape(key)}
        if not digests:
            return {}
        query = select(ApiKey).where(
            ApiKey.project_id == project_id, ApiKey.token_hash.in_(list(digests))
        )
        with self._database.read(rows_of_project(project_id)) as session:
            return {
                digests[row.token_hash]: (row.id, row.mask, "" if row.revoked_at else row.id)
                for row in session.scalars(query)
            }

    def _dead_letters(
        self, project_id: int, rule: AlertRule, start: datetime, end: datetime
    ) -> Sequence[Reading]:
        del rule
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

    def _failed(
        self, project_id: int, rule: AlertRule, start: datetime, end: datetime
    ) -> Sequence[Reading]:
        del rule, end
        return [_counted(failed(self._database, project_id, BLOBS, start), {})]


def _counted(count: int, facts: Mapping[str, str]) -> Reading:
    return Reading("", Decimal(count), count, facts)


def _last_seen(sighting: Sighting) -> dict[str, str]:
    told = {"event_uuid": sighting.uuid, "trace_id": sighting.trace_id}
    told["redacted"] = "" if sighting.keys else "yes"
    return {name: value for name, value in told.items() if value}


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
