"""When a task that failed is tried again, and when it is given up."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nilometer.workflows.retries import JITTER, RetryPolicies, RetryPolicy
from nilometer.workflows.task import ErrorClass, Failure

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TRANSIENT = Failure("c", "d", ErrorClass.TRANSIENT)


def delay(policy, attempts, failure=TRANSIENT, chance=0.0):
    due_at = policy.next_attempt(attempts, failure, NOW, chance)
    return None if due_at is None else (due_at - NOW).total_seconds()


def test_the_wait_doubles_up_to_its_cap():
    policy = RetryPolicy(max_attempts=10, initial=2, cap=30)
    assert [delay(policy, attempts) for attempts in range(1, 7)] == [2, 4, 8, 16, 30, 30]


def test_the_last_attempt_is_the_last():
    policy = RetryPolicy(max_attempts=3)
    assert [delay(policy, attempts) is None for attempts in (1, 2, 3, 4)] == [
        False,
        False,
        True,
        True,
    ]


def test_what_cannot_be_helped_is_given_up_at_once():
    assert delay(RetryPolicy(), 1, Failure("c", "d", ErrorClass.PERMANENT)) is None


def test_what_nobody_can_tell_is_tried_again():
    assert delay(RetryPolicy(), 1, Failure("c", "d")) == 1


def test_who_asks_for_time_gets_it():
    assert delay(RetryPolicy(), 1, Failure("c", "d", retry_after=90)) == 90


@given(
    attempts=st.integers(1, 10_000),
    initial=st.floats(0.1, 60),
    cap=st.floats(60, 3600),
    chance=st.floats(0, 1),
)
def test_the_wait_stays_within_its_bounds(attempts, initial, cap, chance):
    policy = RetryPolicy(max_attempts=100_000, initial=initial, cap=cap)
    waited = delay(policy, attempts, chance=chance)
    assert initial * 0.999 <= waited <= cap * (1 + JITTER) * 1.001


def test_a_kind_without_a_policy_has_the_default():
    special = RetryPolicy(max_attempts=5)
    policies = RetryPolicies({"special": special})
    assert policies.of("special") is special
    assert policies.of("other") is policies.default


@pytest.mark.parametrize("attempts", [1, 2])
def test_jitter_is_at_most_a_fifth(attempts):
    policy = RetryPolicy()
    assert delay(policy, attempts, chance=1.0) == pytest.approx(1.2 * delay(policy, attempts))
