"""The limit on dead letters is a share of a full window of recent records."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nilometer.pipeline.share import DeadLetterShare


def alone(outcomes: list[bool]) -> list[list[bool]]:
    """Records of one event each."""
    return [[outcome] for outcome in outcomes]


def test_one_bad_record_after_a_start_is_not_everything():
    assert DeadLetterShare(0.5, 10).admitted(alone([True])) == 1


def test_the_dead_letter_that_would_be_one_too_many_is_not_admitted():
    share = DeadLetterShare(0.5, 10)
    assert share.admitted(alone([True] * 6)) == 5
    share.count([True] * 5)
    assert share.admitted(alone([False, True])) == 1


def test_asking_counts_nothing():
    share = DeadLetterShare(0.5, 10)
    for _ in range(3):
        assert share.admitted(alone([True] * 5)) == 5


def test_old_records_leave_the_window():
    share = DeadLetterShare(0.5, 10)
    share.count([True] * 5)
    assert share.admitted(alone([True])) == 0
    share.count([False] * 6)
    assert share.admitted(alone([True])) == 1


def test_forgetting_admits_again():
    share = DeadLetterShare(0.5, 10)
    share.count([True] * 5)
    share.forget()
    assert share.admitted(alone([True] * 5)) == 5


@pytest.mark.parametrize("share", [0.01, 0.5, 1.0])
@given(outcomes=st.lists(st.booleans(), max_size=60))
def test_no_window_of_admitted_records_ever_has_too_many(share: float, outcomes: list[bool]):
    limit = max(1, int(share * 10))
    admitted = outcomes[: DeadLetterShare(share, 10).admitted(alone(outcomes))]
    windows = [admitted[max(0, end - 10) : end] for end in range(1, len(admitted) + 1)]
    assert all(sum(window) <= limit for window in windows)
    if len(admitted) < len(outcomes):
        assert outcomes[len(admitted)]
        assert sum(admitted[-9:]) + 1 > limit


def test_a_record_that_begins_within_the_limit_is_passed_whole():
    """Or a batch with more bad events than the limit could never be passed, by no restart."""
    share = DeadLetterShare(0.5, 10)
    many, one = [False] + [True] * 50, [True]
    assert share.admitted([many, one]) == 1
    share.count(many)
    assert share.admitted([one]) == 0
    assert share.admitted([[False] * 3, one]) == 1
    share.forget()
    assert share.admitted([many]) == 1
