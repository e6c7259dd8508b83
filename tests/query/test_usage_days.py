"""Kept days of usage: at any moment they answer as the calls themselves do."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nilometer.pipeline.usage_upkeep import UsageUpkeep
from nilometer.query import usage_days
from nilometer.query.usage import Usage
from nilometer.query.usage_days import UsageDays
from nilometer.usage.answers import answer
from nilometer.usage.dimensions import DIMENSIONS
from nilometer.usage.query import UsageQuery
from tests.projects import new_project_id
from tests.query.rows import aligned, call_row, event_row

FIRST = date(2025, 3, 10)
LAST = FIRST + timedelta(days=2)
QUESTIONS = (
    UsageQuery(FIRST, LAST, {}, DIMENSIONS),
    UsageQuery(FIRST, LAST, {"model": "m-1", "status": "error"}, ("day", "hour", "service")),
    UsageQuery(FIRST, LAST, {"service": "openai"}, ("user", "job")),
    UsageQuery(FIRST, FIRST, {}, (), ("batch", "service"), limit=2),
    UsageQuery(LAST, LAST, {"job": "a"}, ("day", "model")),
)
_text = st.sampled_from(["", "a", "b", "é#1"])
_amount = st.none() | st.integers(0, 10**6).map(lambda n: f"{n}.{n:018}")


@st.composite
def call(draw: st.DrawFn) -> dict[str, Any]:
    """What one source says of a call; of a call in the afternoon another one may say the next
    day's morning."""
    day = draw(st.integers(0, 4))
    moment = datetime(2025, 3, 8 + day, 18, tzinfo=UTC)
    return {
        "call_id": f"{draw(st.sampled_from('xyz'))}-{day}",
        "source_rank": draw(st.sampled_from([10, 20])),
        "timestamp": moment + timedelta(minutes=draw(st.integers(0, 14 * 60))),
        "provider": draw(st.sampled_from(["OpenAI", "anthropic", None])),
        "model": draw(st.sampled_from(["m-1", "m-2", None])),
        "is_error": draw(st.booleans()),
        "latency": draw(st.none() | st.integers(0, 10**8).map(lambda n: n / 1e6)),
        "vector_input": draw(st.none() | st.integers(0, 2**63)),
        "cost_total": draw(_amount),
        "reported_total_cost_usd": draw(_amount),
        "api_calls": draw(st.integers(1, 3)),
        "operation_name": draw(st.sampled_from(["completion", "embedding"])),
        **{f"{name}_id": draw(_text) for name in ("user", "job", "batch")},
        **{name: draw(_text) for name in ("environment", "developer", "repository")},
    }


_change = st.one_of(
    st.tuples(st.just("add"), st.lists(call(), min_size=1, max_size=6)),
    st.tuples(st.just("repeat"), st.integers(0, 99)),
    st.tuples(st.just("reprice"), st.integers(0, 99)),
    st.tuples(st.just("delete"), st.integers(0, 99)),
)


class Project:
    """A project's rows of calls, and its usage."""

    def __init__(self, store):
        self.store = store
        self.id = new_project_id()
        self.rows: list[dict[str, Any]] = []
        self.usage = Usage(store)

    def change(self, kind: str, what: Any) -> None:
        if kind == "add":
            self._insert([call_row(event_row(self.id), **each) for each in what])
        elif self.rows:
            row = self.rows[what % len(self.rows)]
            if kind == "repeat":
                self._insert([row])
            elif kind == "reprice":
                more = {"cost_total": f"{what}.5", "revision": row["revision"] + 1}
                self._insert([row | more])
            else:
                self.rows.remove(row)
                self.store.command(
                    "ALTER TABLE calls DELETE WHERE project_id = {project:Int64} "
                    "AND call_id = {call:String} AND event_uuid = {event:UUID} "
                    "SETTINGS mutations_sync = 1",
                    {"project": self.id, "call": row["call_id"], "event": row["event_uuid"]},
                )

    def keep(self, first: date = FIRST, last: date = LAST) -> None:
        days = UsageDays(self.store)
        days.refresh(self.id, days.marks(self.id, first, last))

    def kept(self, kind: str = "days") -> list[Any]:
        return self.store.query(
            "SELECT day, build FROM usage_days WHERE project_id = {project:Int64} "
            "AND kind = {kind:String} ORDER BY day, built_at",
            {"project": self.id, "kind": kind},
        ).rows

    def _insert(self, rows: list[dict[str, Any]]) -> None:
        self.store.insert("calls", aligned(rows))
        self.rows += rows


def _of_days(project: Project, query: UsageQuery) -> Any:
    return answer(query, project.usage.groups(project.id, query))


def _of_calls(project: Project, query: UsageQuery) -> Any:
    return answer(query, project.usage.of_calls(project.id, query))


@given(steps=st.lists(st.tuples(st.booleans(), _change), min_size=2, max_size=3))
@settings(max_examples=5, derandomize=True, deadline=None)
def _answers_stay_the_same(store, steps):
    project = Project(store)
    project.change("add", [_plain(n) for n in range(4)])
    for made_before, change in steps:
        if made_before:
            project.keep()
        project.change(*change)
        for query in QUESTIONS:
            assert _of_days(project, query) == _of_calls(project, query), query
    assert project.kept()


def _plain(number: int) -> dict[str, Any]:
    return {
        "call_id": f"plain-{number}",
        "timestamp": datetime(2025, 3, 10 + number % 3, 12, tzinfo=UTC),
        "cost_total": "1",
        "latency": 0.5,
        "user_id": "a",
        "model": "m-1",
    }


def test_kept_days_answer_as_the_calls_do_whatever_arrives(store, monkeypatch):
    monkeypatch.setattr(usage_days, "_worth", lambda stale, marks: True)
    _answers_stay_the_same(store)


def test_a_better_source_of_the_next_day_takes_a_call_out_of_its_day(store):
    project = Project(store)
    late = {"call_id": "of-both", "timestamp": datetime(2025, 3, 10, 23, tzinfo=UTC)}
    project.change("add", [_plain(0), _plain(3) | late | {"source_rank": 20}])
    query = UsageQuery(FIRST, FIRST, {}, ("model",))
    project.keep()
    assert _of_days(project, query)["summary"]["call_count"] == 2
    project.change("add", [_plain(1) | late | {"timestamp": datetime(2025, 3, 11, 1, tzinfo=UTC)}])
    assert _of_days(project, query) == _of_calls(project, query)
    assert _of_days(project, query)["summary"]["call_count"] == 1


def test_what_is_kept_is_answered_without_the_calls(store, monkeypatch):
    project = Project(store)
    project.change("add", [_plain(n) for n in range(4)])
    project.keep()
    right = [_of_calls(project, query) for query in QUESTIONS[:4]]
    monkeypatch.delattr(Usage, "of_calls")
    assert [_of_days(project, query) for query in QUESTIONS[:4]] == right


def test_only_days_that_changed_are_made_again(store):
    project = Project(store)
    project.change("add", [_plain(0), _plain(2) | {"timestamp": datetime(2025, 3, 20, tzinfo=UTC)}])
    days = UsageDays(store)
    marks = days.marks(project.id, FIRST, date(2025, 3, 20))
    first = days.refresh(project.id, marks)
    assert set(first) == {
        (kind, day) for kind in usage_days.KINDS for day in (FIRST, date(2025, 3, 20))
    }
    project.change("reprice", 0)
    again = days.refresh(project.id, days.marks(project.id, FIRST, date(2025, 3, 20)))
    changed = {key for key, build in again.items() if first[key] != build}
    assert changed == {(kind, FIRST) for kind in usage_days.KINDS}


def test_a_kind_with_too_many_cells_is_answered_from_the_calls(store, monkeypatch):
    monkeypatch.setattr(usage_days, "MAX_CELLS", 2)
    project = Project(store)
    rows = [_plain(0) | {"call_id": f"c-{n}", "user_id": f"u-{n}"} for n in range(3)]
    project.change("add", rows)
    project.keep()
    query = UsageQuery(FIRST, FIRST, {}, ("user", "model"))
    assert _of_days(project, query) == _of_calls(project, query)
    assert len(_of_days(project, query)["aggregations"]["by_user"]) == 3


def test_a_day_that_is_made_anew_while_it_is_read_is_answered_from_the_calls(store):
    project = Project(store)
    project.change("add", [_plain(0)])
    project.keep()
    query = UsageQuery(FIRST, FIRST, {}, ("model",))
    right = _of_days(project, query)
    cells = UsageDays.cells

    def gone(self, *asked):
        found = cells(self, *asked)
        store.command(
            "ALTER TABLE usage_days DELETE WHERE project_id = {project:Int64} "
            "SETTINGS mutations_sync = 1",
            {"project": project.id},
        )
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(UsageDays, "cells", gone)
        assert answer(query, Usage(store).groups(project.id, query)) == right


def test_upkeep_makes_the_days_of_projects_that_changed(store):
    project = Project(store)
    now = datetime.now(UTC)
    project.change("add", [_plain(0) | {"timestamp": now, "accepted_at": now}])
    upkeep = UsageUpkeep(UsageDays(store))
    assert upkeep.once() >= 1
    [(day, _)] = project.kept()
    assert day == now.date()
    assert upkeep.once() >= 1
    assert len(project.kept()) == 1


def test_the_first_and_the_last_day_that_can_be_asked_for_are_answered(store):
    project = Project(store)
    days = (date(1970, 1, 1), date(2299, 12, 31))
    rows = [
        _plain(n) | {"timestamp": datetime(day.year, day.month, day.day, 12, tzinfo=UTC)}
        for n, day in enumerate(days)
    ]
    project.change("add", rows)
    for day in days:
        project.keep(day, day)
        query = UsageQuery(day, day, {}, ("day",))
        assert list(_of_days(project, query)["aggregations"]["by_day"]) == [str(day)]
        assert _of_days(project, query) == _of_calls(project, query)
