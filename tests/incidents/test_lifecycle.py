"""An incident goes from one status only to those that may follow, and never into a dead end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nilometer.incidents import lifecycle
from nilometer.incidents.incident import Status
from nilometer.incidents.lifecycle import CLOSED, TRANSITIONS, IllegalTransition


def reachable(start: Status) -> set[Status]:
    found, ahead = {start}, [start]
    while ahead:
        new = TRANSITIONS[ahead.pop()] - found
        found |= new
        ahead += new
    return found


@given(st.sampled_from(Status), st.sampled_from(Status))
def test_what_is_not_in_the_table_is_refused(current, following):
    if following is current or following in TRANSITIONS[current]:
        lifecycle.check(current, following)
    else:
        with pytest.raises(IllegalTransition):
            lifecycle.check(current, following)


def test_every_status_can_be_come_to_and_left():
    assert reachable(Status.RECEIVED) == set(Status) == set(TRANSITIONS)
    assert all(Status.RESOLVED in reachable(status) for status in Status)


def test_what_is_done_is_only_begun_again():
    assert {status: TRANSITIONS[status] for status in CLOSED} == dict.fromkeys(
        CLOSED, frozenset({Status.RECEIVED})
    )


def test_nothing_becomes_resolved_before_it_was_judged():
    assert Status.RESOLVED not in TRANSITIONS[Status.RECEIVED] | TRANSITIONS[Status.OPEN]
