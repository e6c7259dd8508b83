"""What budgets spent, by kept days: exactly what the calls themselves say."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nilometer.budgets.budget import BudgetScope, ScopeKind
from nilometer.budgets.spend import Span
from nilometer.query import usage_days
from nilometer.query.spend import CallSpend
from nilometer.query.usage_days import UsageDays
from tests.query.test_usage_days import Project, call

START = datetime(2025, 3, 7, tzinfo=UTC)
CAIRO = ZoneInfo("Africa/Cairo")
SCOPES = (
    *((ScopeKind.PROJECT, ""), (ScopeKind.SERVICE, "openai"), (ScopeKind.MODEL, "m-1")),
    *((ScopeKind.USER, "a"), (ScopeKind.JOB, "é#1"), (ScopeKind.ENVIRONMENT, "b")),
)


def spans(start, end, **more):
    return [Span(BudgetScope(kind, value), start, end, **more) for kind, value in SCOPES]


def keep(project):
    days = UsageDays(project.store)
    first = START.date()
    days.refresh(project.id, days.marks(project.id, first, first + timedelta(days=8)))


def told(found):
    return [(each.cost, each.calls, each.unpriced) for each in found]


@given(
    before=st.lists(call(), min_size=4, max_size=12),
    after=st.lists(call(), max_size=3),
    start=st.integers(0, 4 * 24),
    hours=st.integers(1, 7 * 24),
)
@settings(max_examples=6, derandomize=True, deadline=None)
def _kept_days_say_what_calls_say(store, before, after, start, hours):
    project = Project(store)
    project.change("add", before)
    keep(project)
    if after:
        project.change("add", after)
    begin = START + timedelta(hours=start)
    asked = [
        *spans(START, START + timedelta(days=8)),
        *spans(begin, begin + timedelta(hours=hours)),
        *spans(datetime(2025, 3, 8, tzinfo=CAIRO), datetime(2025, 3, 12, tzinfo=CAIRO)),
        *spans(START, START + timedelta(days=8), first=True),
    ]
    spend = CallSpend(store)
    found, right = spend.of(project.id, asked), spend.of_calls(project.id, asked)
    assert told(found) == told(right)
    assert [each.first_at for each in found[-6:]] == [each.first_at for each in right[-6:]]


def test_kept_days_say_what_the_calls_say_exactly(store):
    _kept_days_say_what_calls_say(store)


def plain(number, **more):
    at = START + timedelta(days=number, hours=12)
    return {"call_id": f"c-{number}", "timestamp": at, "cost_total": "1", "user_id": "a", **more}


def test_whole_days_that_are_kept_are_not_read_again(store):
    """Their rows go away behind their marks' back: what was kept of them still answers."""
    project, spend = Project(store), CallSpend(store)
    project.change("add", [plain(number) for number in range(6)])
    keep(project)
    end = START + timedelta(days=5, hours=13)
    marks = spend._days.marks(project.id, spans(START, end))
    store.command(
        "ALTER TABLE calls DELETE WHERE project_id = {project:Int64} SETTINGS mutations_sync = 1",
        {"project": project.id},
    )
    found = spend._read(project.id, spans(START, end), marks)
    # Of the last day, which ends before its midnight, the calls are asked.
    assert told(found)[0] == (5, 5, 0)
    assert told(found)[3] == (5, 5, 0)
    assert told(found)[1] == (0, 0, 0)


def test_from_a_day_that_changed_on_the_calls_are_read(store):
    project, spend = Project(store), CallSpend(store)
    project.change("add", [plain(number) for number in range(6)])
    keep(project)
    project.change("reprice", 3)
    [found, *_] = spend.of(project.id, spans(START, START + timedelta(days=6)))
    assert (str(found.cost), found.calls) == ("8.500000000000000000", 6)


@pytest.mark.parametrize("fault", ["gone", "too many"])
def test_what_is_not_kept_is_answered_by_the_calls(store, monkeypatch, fault):
    project, spend = Project(store), CallSpend(store)
    project.change("add", [plain(number, user_id=f"u-{number % 2}") for number in range(4)])
    project.change("add", [plain(0, call_id=f"more-{n}", user_id=f"u-{n}") for n in range(3)])
    if fault == "too many":
        monkeypatch.setattr(usage_days, "MAX_CELLS", 2)
    keep(project)
    asked = [
        Span(BudgetScope(ScopeKind.USER, "u-1"), START, START + timedelta(days=8)),
        *spans(START, START + timedelta(days=8)),
    ]
    if fault == "gone":
        kept = UsageDays.kept

        def gone(self, *more):
            found = kept(self, *more)
            store.command(
                "ALTER TABLE usage_days DELETE WHERE project_id = {project:Int64} "
                "SETTINGS mutations_sync = 1",
                {"project": project.id},
            )
            return found

        monkeypatch.setattr(UsageDays, "kept", gone)
    assert told(spend.of(project.id, asked))[:2] == [(3, 3, 0), (7, 7, 0)]
