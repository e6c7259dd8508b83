"""Requests are kept apart."""

from tests.integration.production.pace import Pace


class Clock:
    def __init__(self):
        self.now, self.pauses = 100.0, []

    def pause(self, seconds):
        self.pauses.append(seconds)
        self.now += seconds


def test_the_first_request_leaves_at_once_and_the_next_after_the_delay():
    clock = Clock()
    pace = Pace(0.5, lambda: clock.now, clock.pause)
    for _ in range(3):
        pace.wait()
    assert clock.pauses == [0.5, 0.5]


def test_a_request_that_is_late_anyway_does_not_wait():
    clock = Clock()
    pace = Pace(0.5, lambda: clock.now, clock.pause)
    pace.wait()
    clock.now += 0.3
    pace.wait()
    clock.now += 7
    pace.wait()
    assert [round(pause, 6) for pause in clock.pauses] == [0.2]
