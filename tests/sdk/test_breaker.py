from __future__ import annotations

import threading

import pytest

from nilometer.sdk.delivery.breaker import CLOSED, HALF_OPEN, OPEN, CircuitBreaker


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> CircuitBreaker:
    return CircuitBreaker(threshold=3, timeout=30, base=1, clock=clock, jitter=lambda: 1.0)


def fail(breaker: CircuitBreaker, clock: Clock, times: int) -> None:
    for _ in range(times):
        clock.now += breaker.delay()
        assert breaker.allow()
        breaker.failed()


def test_delays_double_until_it_opens(breaker, clock):
    delays = []
    for _ in range(3):
        fail(breaker, clock, 1)
        delays.append(breaker.delay())
    assert delays == [1, 2, 37.5]
    assert breaker.state == OPEN
    assert not breaker.allow()


def test_one_probe_goes_of_many_that_ask(breaker, clock):
    fail(breaker, clock, 3)
    clock.now += 40
    assert breaker.state == HALF_OPEN
    allowed = []
    barrier = threading.Barrier(20)

    def ask() -> None:
        barrier.wait()
        allowed.append(breaker.allow())

    threads = [threading.Thread(target=ask) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert allowed.count(True) == 1


def test_a_probe_decides(breaker, clock):
    fail(breaker, clock, 3)
    clock.now += 40
    assert breaker.allow()
    breaker.failed()
    assert breaker.state == OPEN
    clock.now += 40
    assert breaker.allow()
    breaker.succeeded()
    assert (breaker.state, breaker.delay(), breaker.failures) == (CLOSED, 0, 0)
    assert breaker.allow()
    assert breaker.allow()


def test_a_probe_with_nothing_to_send_leaves_it_to_the_next(breaker, clock):
    fail(breaker, clock, 3)
    clock.now += 40
    assert breaker.allow()
    breaker.passed_over()
    assert breaker.allow()


def test_the_store_may_ask_for_more_time(breaker):
    assert breaker.allow()
    breaker.failed(retry_after=500)
    assert breaker.delay() == 500


def test_someone_who_waits_gets_a_probe_at_once(breaker, clock):
    fail(breaker, clock, 3)
    breaker.hurry()
    assert breaker.allow()
    assert not breaker.allow()


def test_delays_are_jittered(clock):
    low = CircuitBreaker(threshold=3, base=4, clock=clock, jitter=lambda: 0.0)
    assert low.allow()
    low.failed()
    assert low.delay() == 2
