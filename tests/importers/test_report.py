"""Reports of a store stay readable, whatever clock a record has."""

from datetime import date

import pytest

from nilometer.errors import InvalidInput
from nilometer.importers import report
from nilometer.importers.report import Asked, make
from nilometer.importers.store import TraceStore
from tests.importers.rows import row


@pytest.fixture
def store(tmp_path):
    days = ["1970-01-01", *(f"2026-11-0{day}" for day in range(1, 8)), "2105-05-05"]
    with TraceStore(tmp_path / "t.db") as store, store.run() as run:
        run.keep([row(day, timestamp=f"{day}T10:00:00.000000+00:00", cost_usd="1") for day in days])
        yield store


def test_calls_of_odd_clocks_are_counted_and_left_out(store):
    made = make(store, Asked((("day",),)))
    assert (made.period.start, made.period.end) == (date(2026, 11, 1), date(2026, 11, 7))
    assert made.total.now.calls == 7
    assert [note for note in made.notes if "lie outside" in note] == [
        "2 calls of 1970-01-01 to 2105-05-05 lie outside: a report is of at most 1,098 days."
    ]


def test_days_that_are_asked_for_are_reported(store):
    odd = date(2105, 5, 5)
    assert make(store, Asked((), odd, odd)).total.now.calls == 1
    assert make(store, Asked((), date(2026, 11, 7))).total.now.calls == 1
    assert make(store, Asked((), None, date(2026, 11, 2))).total.now.calls == 2
    with pytest.raises(InvalidInput, match="1,098 days"):
        make(store, Asked((), date(1970, 1, 1), odd))


def test_three_years_are_reported_whole(store, monkeypatch):
    monkeypatch.setattr(report, "MAX_DAYS", 5)
    made = make(store, Asked((), None, date(2026, 11, 5)))
    assert (made.period.days, made.total.now.calls) == (5, 5)
