"""A worker that pauses for longer than its leases keeps what it has in hand: its database was away,
or its machine slept."""

import threading
from contextlib import contextmanager

import pytest

from nilometer.database.engine import DatabaseUnavailable
from nilometer.workflows import settling
from tests.running import wait_until
from tests.workflows.test_runners import Calling, effect_runner


class Slow(Calling):
    """One whose calls are answered when a test says so."""

    def __init__(self):
        self.answer = threading.Event()
        super().__init__(lambda _: self.answer.wait(90) and None)


@contextmanager
def a_call_under_way(queue):
    """A worker without its threads, and what it has begun."""
    queue.add()
    effect = Slow()
    worker = effect_runner(queue, effect)
    try:
        assert worker.look()
        yield worker, effect
    finally:
        effect.answer.set()
        worker.stop()


def answered(worker, effect):
    effect.answer.set()
    wait_until(lambda: worker._performed)


def test_an_answer_in_hand_is_recorded_once_after_a_pause(queue):
    with a_call_under_way(queue) as (worker, effect):
        queue.later(minutes=1)
        answered(worker, effect)
        assert not worker.look()
        assert queue.only().losses == 0
        assert worker.record()
        assert queue.count() == 0
    assert effect.calls == effect.recorded == ["lane.1"]


def test_a_call_that_goes_on_through_pauses_is_begun_once(queue):
    with a_call_under_way(queue) as (worker, effect):
        for _ in range(3):
            queue.later(minutes=1)
            assert not worker.look()
            assert queue.only().due_at > queue.now
        answered(worker, effect)
        worker.record()
    assert effect.calls == effect.recorded == ["lane.1"]
    assert queue.count() == 0


def test_a_worker_that_paused_while_it_began_keeps_that_too(queue):
    """Its lease may be over before the call is under way, however lately others were prolonged."""

    def begin(*arguments):
        queue.later(minutes=1)
        worker._keep()
        return Calling.begin(effect, *arguments)

    queue.add()
    effect = Slow()
    effect.begin = begin
    worker = effect_runner(queue, effect)
    try:
        assert worker.look()
        assert not worker.look()
    finally:
        effect.answer.set()
        worker.stop()
    assert effect.calls == effect.recorded == ["lane.1"]


def test_nothing_is_claimed_while_what_is_in_hand_cannot_be_prolonged(queue, monkeypatch):
    def away(*_):
        raise DatabaseUnavailable("it is away")

    with a_call_under_way(queue) as (worker, _):
        queue.add("another")
        queue.later(minutes=1)
        with monkeypatch.context() as patch:
            patch.setattr(settling, "extend", away)
            with pytest.raises(DatabaseUnavailable):
                worker.look()
        assert [row.losses for row in queue.rows()] == [0, 0]
        assert {row.lane for row in queue.rows() if row.lease} == {"lane"}
        assert worker.look()
        assert {row.lane for row in queue.rows() if row.lease} == {"lane", "another"}


def test_a_clock_that_is_put_back_has_the_lease_end_soon_all_the_same(queue):
    """Others end a lease that is too long (`settling.shorten`)."""
    with a_call_under_way(queue) as (worker, _):
        queue.later(hours=-1)
        worker.look()
        assert (queue.only().due_at - queue.now).total_seconds() == 30


def test_what_another_claimed_during_the_pause_is_lost(queue):
    with a_call_under_way(queue) as (worker, effect):
        queue.later(minutes=1)
        other = Calling()
        others = effect_runner(queue, other)
        assert others.look()
        assert not worker.look()
        assert queue.only().losses == 1
        answered(worker, effect)
        assert worker.record()
        assert effect.recorded == []
        others.stop()
    assert other.recorded == ["lane.1"]
    assert queue.count() == 0
