from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nilometer.notifications import notification as limits
from nilometer.notifications.notification import Notification
from nilometer.notifications.schedule import LONGEST, next_attempt
from tests.notifications.telling import told

ANY = st.text(st.characters(), max_size=5000)


@given(title=ANY, text=ANY, facts=st.dictionaries(ANY, ANY, max_size=50), link=ANY)
def test_any_text_is_made_harmless_and_is_kept_as_it_is(title, text, facts, link):
    made = told(title=title, text=text, facts=facts, link=link)
    assert Notification.from_json(made.to_json()) == made
    assert len(made.title) <= limits.MAX_TITLE
    assert len(made.text) <= limits.MAX_TEXT
    assert len(made.facts) <= limits.MAX_FACTS
    lines = [made.title, made.link or "", *made.facts, *made.facts.values()]
    assert all(each.isprintable() for each in lines + made.text.split("\n"))
    assert max(map(len, [*made.facts.values(), ""])) <= limits.MAX_FACT


def test_what_is_too_long_ends_with_an_ellipsis():
    assert told(title="x" * 300).title == "x" * (limits.MAX_TITLE - 1) + "…"


def test_a_moment_without_a_zone_is_refused():
    with pytest.raises(ValueError, match="time zone"):
        told(occurred_at=datetime(2026, 1, 1))  # noqa: DTZ001


@given(
    attempts=st.integers(1, 100),
    chance=st.floats(0, 1),
    left=st.timedeltas(timedelta(0), timedelta(days=2)),
    asked=st.none() | st.floats(0, 200_000),
)
def test_the_next_attempt_is_never_before_it_was_asked_for_nor_after_the_end(
    attempts, chance, left, asked
):
    now = told().occurred_at
    following = next_attempt(attempts, now, now + left, chance, asked)
    if following is None:
        assert not left or (asked or 0) > left.total_seconds()
        return
    wait = (following - now).total_seconds()
    assert wait >= (asked or 0) - 1e-6
    assert following <= now + left
    assert wait <= max(LONGEST.total_seconds(), (asked or 0) + 1e-6)


def test_waits_double_from_seconds_to_an_hour():
    now = told().occurred_at
    waits = [
        (next_attempt(attempt, now, now + LONGEST * 24, 1, None) - now).total_seconds()
        for attempt in range(1, 13)
    ]
    assert waits == [5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600]
