"""Group commit of what is raised: shared commits, each project's turn, and failures alone."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import contextmanager, suppress
from datetime import timedelta

import pytest

from nilometer.database.engine import DatabaseUnavailable
from nilometer.domain import clock
from nilometer.errors import InvalidInput, NilometerError, Unavailable
from nilometer.incidents import raising
from nilometer.incidents.backlog import Backlog, BacklogFull
from nilometer.incidents.incident import Accepted, Actor, ActorKind, NewException
from nilometer.incidents.raising import Raise, Raising

ONE = [NewException("Failed", "billing")]


def asked(project_id, name="", count=1, size=100):
    return Raise(project_id, ONE * count, Actor(ActorKind.KEY, name), None, None, size)


class Accepting:
    """Stands for the acceptance: notes each commit, and holds the first until it is let go."""

    def __init__(self, outcome: Callable[[Raise], object] = lambda _: None) -> None:
        self.commits: list[list[Raise]] = []
        self.begun, self.go_on = threading.Event(), threading.Event()
        self._outcome = outcome

    def __call__(self, _, requests, now):
        self.commits.append(list(requests))
        self.begun.set()
        assert self.go_on.wait(90)
        return [
            self._outcome(each) or [Accepted(each.actor.id) for _ in each.exceptions]
            for each in requests
        ]


@contextmanager
def opened(world, accepting, most=1000, count=lambda *_: 0, wake=lambda _: None):
    made = Raising(world.database, accepting, Backlog(count, most=most), wake=wake)
    try:
        yield made
    finally:
        accepting.go_on.set()
        made.close()


async def first_and(made, accepting, *others):
    """One request whose commit is held while the others are asked; what came of all."""
    first = asyncio.create_task(made.accepted(asked(1, "first")))
    await asyncio.to_thread(accepting.begun.wait, 30)
    tasks = [asyncio.create_task(made.accepted(each)) for each in others]
    await asyncio.sleep(0)  # each is queued before it is let go
    accepting.go_on.set()
    return await asyncio.gather(first, *tasks, return_exceptions=True)


def test_what_is_asked_while_a_commit_runs_shares_the_next(world):
    accepting = Accepting()
    with opened(world, accepting) as made:
        others = [asked(project, f"{project}") for project in range(2, 33)]
        results = asyncio.run(first_and(made, accepting, *others))
    assert [len(commit) for commit in accepting.commits] == [1, 31]
    assert [result[0].exception_id for result in results[1:]] == [each.actor.id for each in others]


def test_a_project_that_floods_delays_another_by_one_request(world, monkeypatch):
    monkeypatch.setattr(raising, "MAX_COMMIT", 10)
    accepting = Accepting()
    with opened(world, accepting) as made:
        flood = [asked(7, "flood") for _ in range(50)]
        asyncio.run(first_and(made, accepting, *flood, asked(8, "small")))
    assert "small" in [each.actor.id for each in accepting.commits[1][:2]]
    assert max(len(commit) for commit in accepting.commits) == 10


def test_one_that_is_refused_keeps_no_neighbour_back(world):
    def outcome(each):
        return InvalidInput("no", attr="x") if each.actor.id == "bad" else None

    accepting = Accepting(outcome)
    with opened(world, accepting) as made:
        results = asyncio.run(
            first_and(made, accepting, asked(2, "a"), asked(3, "bad"), asked(4, "b"))
        )
    assert [type(each) for each in results] == [list, list, InvalidInput, list]
    assert results[2].attr == "x"
    assert len(accepting.commits) == 2


def test_one_that_breaks_a_commit_is_found_and_the_others_are_accepted(world, caplog):
    def outcome(each):
        if each.actor.id == "poison":
            raise RuntimeError("broken")

    accepting = Accepting(outcome)
    with opened(world, accepting) as made:
        results = asyncio.run(
            first_and(made, accepting, asked(2, "a"), asked(3, "poison"), asked(4, "b"))
        )
    assert [type(each) for each in results] == [list, list, Unavailable, list]
    assert "RuntimeError" in caplog.text


def test_nothing_is_answered_when_the_commit_fails(world, monkeypatch):
    concurrent = world.database.concurrent

    @contextmanager
    def failing(rows):
        with suppress(ZeroDivisionError), concurrent(rows) as session:
            yield session
            raise ZeroDivisionError  # so that the transaction is undone
        raise DatabaseUnavailable("the disk is gone")

    accepting, woken = Accepting(), []
    monkeypatch.setattr(world.database, "concurrent", failing)
    with opened(world, accepting, wake=woken.append) as made:
        results = asyncio.run(first_and(made, accepting, asked(2), asked(3)))
    assert [type(each) for each in results] == [DatabaseUnavailable] * 3
    assert woken == []


def test_who_has_gone_is_not_written_for(world):
    accepting = Accepting()

    async def leave(made):
        first = asyncio.create_task(made.accepted(asked(1)))
        await asyncio.to_thread(accepting.begun.wait, 30)
        second = asyncio.create_task(made.accepted(asked(2)))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        accepting.go_on.set()
        await first

    with opened(world, accepting) as made:
        asyncio.run(leave(made))
    assert len(accepting.commits) == 1


def test_a_projects_requests_that_wait_are_bounded_and_others_are_not_held_up(world, monkeypatch):
    monkeypatch.setattr(raising, "MAX_WAITING_BYTES_EACH", 5000)
    monkeypatch.setattr(raising, "MAX_WAITING_BYTES", 9000)
    accepting = Accepting()
    with opened(world, accepting) as made:
        results = asyncio.run(
            first_and(
                *(made, accepting, asked(2, size=3000), asked(2, size=3000)),
                *(asked(3, size=3000), asked(4, size=3000)),
            )
        )
    assert [type(each) for each in results] == [list, list, BacklogFull, list, Unavailable]
    assert results[4].code == "busy"


def test_a_project_over_its_backlog_is_refused_alone(world, monkeypatch):
    # What is known holds for the whole test; the next one has the second that it is known for.
    monkeypatch.setattr("nilometer.incidents.backlog._FRESH", timedelta(hours=1))
    waiting = {2: 5, 3: 4}
    accepting = Accepting()
    with opened(world, accepting, 5, lambda _, project, most: waiting.get(project, 0)) as made:
        results = asyncio.run(first_and(made, accepting, asked(2), asked(3)))
        assert [type(each) for each in results] == [list, BacklogFull, list]
        assert results[1].retry_after > 0
        # The fourth is followed by the fifth, which was the last: within the second it is known.
        with pytest.raises(BacklogFull):
            asyncio.run(made.accepted(asked(3)))
    assert [each.project_id for each in accepting.commits[1]] == [3]


def test_a_backlog_that_went_down_is_seen_within_a_second():
    counts = [5, 0]
    backlog = Backlog(lambda *_: counts.pop(0), most=5, dead=lambda *_: 0)
    now = clock.now()
    session = object()
    assert set(backlog.full(session, [1], now)) == {1}
    with pytest.raises(BacklogFull):
        backlog.check(1, now)
    later = now + timedelta(seconds=1)
    backlog.check(1, later)
    assert backlog.full(session, [1], later) == {}
    assert counts == []


def test_dead_letters_are_no_backlog_and_have_a_limit_and_a_sentence_of_their_own():
    dead = {1: 49, 2: 50}
    backlog = Backlog(lambda *_: 0, most=5, dead=lambda _, project, most: dead[project])
    [(project, refusal)] = backlog.full(object(), [1, 2], clock.now()).items()
    assert (project, refusal.code) == (2, "too_many_dead_letters")
    assert "replayed or discarded" in refusal.detail
    assert refusal.retry_after >= 30


def test_a_server_that_stops_writes_what_is_queued_and_takes_no_more(world):
    accepting = Accepting()

    async def stop(made):
        first = asyncio.create_task(made.accepted(asked(1)))
        await asyncio.to_thread(accepting.begun.wait, 30)
        second = asyncio.create_task(made.accepted(asked(2)))
        await asyncio.sleep(0)
        closing = asyncio.create_task(asyncio.to_thread(made.close))
        accepting.go_on.set()
        assert [len(each) for each in await asyncio.gather(first, second)] == [1, 1]
        await closing
        with pytest.raises(NilometerError):
            await made.accepted(asked(3))

    with opened(world, accepting) as made:
        asyncio.run(stop(made))
