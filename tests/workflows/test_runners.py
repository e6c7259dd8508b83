"""Each task has effect once, or is a dead letter: whatever fails, and whoever dies."""

import threading
from collections import Counter
from datetime import timedelta

import pytest

from nilometer import failpoints
from nilometer.database.engine import DatabaseUnavailable
from nilometer.database.fence import EVERY_ROW
from nilometer.workflows import dead_letters, stage_runner
from nilometer.workflows.effect_runner import EffectRunner
from nilometer.workflows.enqueueing import cancel, enqueue, enqueued_in
from nilometer.workflows.retries import RetryPolicies, RetryPolicy
from nilometer.workflows.runner import MOST_LOSSES, Running
from nilometer.workflows.stage_runner import StageRunner
from nilometer.workflows.task import ErrorClass, Failure, NewTask, TaskFailed, TaskState
from tests.running import wait_until
from tests.workflows.queues import Recording, states

POLICIES = RetryPolicies(default=RetryPolicy(max_attempts=3, initial=10, cap=10))
TRANSIENT = Failure("busy", "It is busy.", ErrorClass.TRANSIENT)


@pytest.fixture(autouse=True)
def no_failpoints():
    yield
    failpoints.configure("")


def runner(queue, stage, **more):
    return StageRunner(
        queue.database, stage, Running(policies=POLICIES, now=lambda: queue.now, **more)
    )


def failing(*which, failure=TRANSIENT):
    """An act that fails for these lanes."""

    def act(session, task):
        if task.lane in which:
            raise TaskFailed(failure)

    return act


def test_a_stage_ends_a_batch_and_keeps_what_follows_in_one_transaction(queue):
    woken = []

    def act(session, task):
        following = NewTask(task.project_id, "next", task.lane, task.sequence + 1, "kind")
        enqueue(session, [following], queue.now)

    queue.add_lanes(5)
    assert runner(queue, Recording(act), wake=woken.append).look()
    assert {(row.queue, row.sequence) for row in queue.rows()} == {("next", 2)}
    assert woken == [{"next"}]


@pytest.mark.parametrize(("many", "first"), [(20, ["small.1"]), (2, None)])
def test_who_has_few_does_not_wait_for_who_floods_the_queue(sqlite_queue, many, first):
    queue = sqlite_queue
    queue.add_lanes(many)
    queue.add("small", project=2)
    stage = Recording()
    assert runner(queue, stage).look()
    assert queue.count() == 0
    assert len(stage.batches) == (1 if first is None else 2)
    assert first in (None, stage.batches[0])


def test_what_takes_long_is_done_before_the_transaction(queue):
    queue.add_lanes(3)
    seen = []

    def before(tasks):
        # In a transaction of the runner's own this would wait for its end.
        with queue.database.session(EVERY_ROW):
            seen.append((len(tasks), list(stage.batches)))

    stage = Recording()
    StageRunner(queue.database, stage, Running(now=lambda: queue.now), before=before).look()
    assert seen == [(3, [])]
    assert len(stage.batches) == 1


def test_one_that_fails_does_not_keep_the_others_of_its_batch(queue):
    queue.add_lanes(20)
    stage = Recording(failing("lane-00007"))
    runner(queue, stage).look()
    assert states(queue) == {"lane-00007.1": TaskState.READY}
    assert stage.told == [("retried", "busy", 1)]
    row = queue.only()
    assert (row.error_code, row.error, row.error_class) == ("busy", "It is busy.", "transient")
    assert 10 <= (row.due_at - queue.now).total_seconds() <= 12


def test_it_is_tried_exactly_as_often_as_its_policy_says_then_it_is_a_dead_letter(queue):
    queue.add()
    stage = Recording(failing("lane"))
    worker = runner(queue, stage)
    for _ in range(5):
        worker.look()
        queue.later(seconds=20)
    assert len(stage.batches) == 3
    assert stage.told == [("retried", "busy", 1), ("retried", "busy", 2), ("died", "busy", 3)]
    assert states(queue) == {"lane.1": TaskState.DEAD}


def test_batches_are_as_large_as_a_thirtieth_of_a_second_allows(sqlite_queue, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(stage_runner.time, "perf_counter", lambda: clock[0])
    seconds = [0.0001]

    def act(session, task):
        clock[0] += seconds[0]

    sqlite_queue.add_lanes(600)
    stage = Recording(act)
    worker = runner(sqlite_queue, stage)
    for _ in range(4):
        worker.look()
    seconds[0] = 0.01
    for _ in range(6):
        worker.look()
    sizes = [len(batch) for batch in stage.batches]
    assert sizes == [32, 64, 128, 128, 128, 64, 32, 24]


def test_what_fails_twice_and_then_succeeds_has_effect_once(queue):
    queue.add()
    attempts = []

    def act(session, task):
        attempts.append(task.attempts)
        if task.attempts < 3:
            raise TaskFailed(TRANSIENT)

    worker = runner(queue, Recording(act))
    for _ in range(4):
        worker.look()
        queue.later(seconds=20)
    assert attempts == [1, 2, 3]
    assert queue.count() == 0


def test_a_permanent_failure_is_a_dead_letter_at_once(queue):
    queue.add()
    stage = Recording(failing("lane", failure=Failure("bad", "No.", ErrorClass.PERMANENT)))
    runner(queue, stage).look()
    assert stage.told == [("died", "bad", 1)]


def test_a_defect_is_kept_without_what_it_was_working_on(queue):
    def act(session, task):
        raise ValueError("a secret")

    queue.add()
    runner(queue, Recording(act)).look()
    row = queue.only()
    assert (row.error_code, row.error_class) == ("defect", ErrorClass.UNKNOWN)
    assert "ValueError in act" in row.error
    assert "secret" not in row.error


def test_what_a_failed_attempt_wrote_is_undone(queue):
    def act(session, task):
        enqueue(session, [NewTask(1, "next", task.lane, 2, "kind")], queue.now)
        raise TaskFailed(TRANSIENT)

    queue.add()
    runner(queue, Recording(act)).look()
    assert states(queue) == {"lane.1": TaskState.READY}


def test_an_outage_spends_no_attempt(queue):
    queue.add_lanes(3)
    away = [True]

    def act(session, task):
        if away[0]:
            raise DatabaseUnavailable("it is away")

    worker = runner(queue, Recording(act))
    for _ in range(5):
        with pytest.raises(DatabaseUnavailable):
            worker.look()
    away[0] = False
    assert worker.look()
    assert queue.count() == 0


def test_a_stopped_runner_hands_back_what_it_could_not_do(queue):
    def act(session, task):
        raise DatabaseUnavailable("it is away")

    queue.add()
    worker = runner(queue, Recording(act))
    with pytest.raises(DatabaseUnavailable):
        worker.look()
    worker.stop()
    row = queue.only()
    assert (row.state, row.attempts, row.lease) == (TaskState.READY, 0, None)


@pytest.mark.parametrize(("point", "left"), [("stage_worked", 2), ("stage_settled", 0)])
def test_an_end_of_the_process_around_the_commit_has_the_effect_once(sqlite_queue, point, left):
    """`Fault` ends the look as a kill would; what is durable is what a kill leaves."""
    queue = sqlite_queue
    queue.add_lanes(2)
    effects = Counter()

    def act(session, task):
        effects[task.lane] += 1
        following = NewTask(1, "effects", task.lane, task.sequence + 1, "kind")
        enqueue(session, [following], queue.now)

    failpoints.configure(f"{point}=error")
    dying = runner(queue, Recording(act))
    dying._in_hand._alone = _dies
    with pytest.raises(failpoints.Fault):
        dying.look()
    assert sum(row.queue == "work" for row in queue.rows()) == left
    failpoints.configure("")
    queue.later(minutes=1)
    runner(queue, Recording(act)).look()
    assert sorted((row.queue, row.lane) for row in queue.rows()) == [
        ("effects", "lane-00000"),
        ("effects", "lane-00001"),
    ]


def _dies(_, error):
    raise error


def test_what_kills_its_workers_is_given_up_and_its_neighbours_are_done(queue):
    queue.add_lanes(4)
    for _ in range(2):
        assert len(queue.claim()) == 4  # and the worker is heard of no more
        queue.later(minutes=1)
    stage = Recording()
    workers = 0
    while TaskState.DEAD not in states(queue).values():
        claims = queue.claims()
        for _ in range(2):
            claimed = claims.claim(10, queue.now)
            queue.finish([task for task in claimed if task.lane != "lane-00002"])
        queue.later(minutes=1)
        workers += 1
        assert workers < 20
        if queue.rows()[0].losses > MOST_LOSSES - 1 and queue.count() == 1:
            worker = runner(queue, stage)
            worker.look()
            worker.look()
    assert states(queue) == {"lane-00002.1": TaskState.DEAD}
    assert [told[:2] for told in stage.told] == [("died", "workers_died")]


def test_a_hook_that_fails_does_not_keep_a_task_for_ever(queue):
    class Broken(Recording):
        def retried(self, *_):
            raise ValueError

        died = retried

    queue.add()
    worker = runner(queue, Broken(failing("lane")))
    for _ in range(MOST_LOSSES + 3):
        worker.look()
        worker.look()
        queue.later(minutes=1)
    assert states(queue) == {"lane.1": TaskState.DEAD}


def test_a_replayed_dead_letter_is_done_and_its_lane_goes_on(queue):
    queue.add(sequence=1)
    queue.add(sequence=2)
    broken = [True]

    def act(session, task):
        if broken[0]:
            raise TaskFailed(Failure("bad", "No.", ErrorClass.PERMANENT))

    stage = Recording(act)
    worker = runner(queue, stage)
    worker.look()
    assert not worker.look()
    broken[0] = False
    with queue.database.concurrent(EVERY_ROW) as session:
        letter = dead_letters.replay(
            session, 1, "lane.1", by="ann", because="mended", now=queue.now
        )
    assert (letter.attempts, letter.error_code) == (1, "bad")
    while worker.look():
        pass
    assert stage.batches == [["lane.1"], ["lane.1"], ["lane.2"]]
    assert queue.count() == 0


def test_a_discarded_dead_letter_stays_with_its_reason_and_its_lane_goes_on(queue):
    queue.add(sequence=1)
    queue.add(sequence=2)
    refuse = failing("lane", failure=Failure("bad", "No.", ErrorClass.PERMANENT))
    stage = Recording(lambda session, task: refuse(session, task) if task.sequence == 1 else None)
    worker = runner(queue, stage)
    worker.look()
    with queue.database.concurrent(EVERY_ROW) as session:
        dead_letters.discard(session, 1, "lane.1", by="ann", because="old", now=queue.now)
    worker.look()
    row = queue.only()
    assert (row.state, row.decided_by, row.decided_because) == (TaskState.DISCARDED, "ann", "old")
    with (
        pytest.raises(dead_letters.AlreadyDecided),
        queue.database.concurrent(EVERY_ROW) as session,
    ):
        dead_letters.replay(session, 1, "lane.1", by="bob", because="no", now=queue.now)
    with queue.database.concurrent(EVERY_ROW) as session:
        dead_letters.prune(session, queue.now + timedelta(days=91))
    assert queue.count() == 0


def test_a_lane_that_is_cancelled_takes_no_result_any_more(queue):
    queue.add(sequence=1)
    queue.add(sequence=2)
    claimed = queue.claim()
    with queue.database.concurrent(EVERY_ROW) as session:
        cancel(session, [(1, "lane")])
    assert queue.finish(claimed) == []
    assert queue.count() == 0


class Calling(Recording):
    """An effect that counts its calls."""

    def __init__(self, perform=lambda _: None):
        super().__init__()
        self.call = perform
        self.calls = []
        self.recorded = []

    def begin(self, session, tasks, now):
        return [None if task.lane == "nothing" else task.id for task in tasks]

    def perform(self, begun):
        self.calls.append(begun)
        return self.call(begun)

    def record(self, session, performed, now):
        self.recorded += [each.task.id for each in performed]
        return [each.outcome for each in performed]


def effect_runner(queue, effect, **more):
    running = Running(policies=POLICIES, now=lambda: queue.now, interval=0.02, **more)
    return EffectRunner(queue.database, effect, running, places=4)


def run_until(worker, condition):
    worker.start()
    try:
        wait_until(condition)
    finally:
        worker.stop()


def test_an_effect_is_begun_performed_and_recorded_once(queue):
    queue.add_lanes(20)
    queue.add("nothing")
    effect = Calling()
    run_until(effect_runner(queue, effect), lambda: queue.count() == 0)
    assert sorted(effect.calls) == sorted(effect.recorded)
    assert len(set(effect.calls)) == len(effect.calls) == 20


def test_an_effect_that_fails_is_tried_again_or_given_up(queue):
    queue.add("a")
    queue.add("b")
    permanent = Failure("bad", "No.", ErrorClass.PERMANENT)
    effect = Calling(lambda begun: TRANSIENT if begun == "a.1" else permanent)
    run_until(effect_runner(queue, effect), lambda: len(effect.told) == 2)
    assert states(queue) == {"a.1": TaskState.READY, "b.1": TaskState.DEAD}
    assert sorted(effect.told) == [("died", "bad", 1), ("retried", "busy", 1)]


def test_hanging_effects_leave_places_for_others_and_keep_their_leases(sqlite_queue):
    queue = sqlite_queue
    queue.add_lanes(10, project=1)
    queue.add_lanes(10, project=2)
    released = threading.Event()
    hanging = threading.Semaphore(0)

    def hang(begun):
        hanging.release()
        released.wait(30)

    slow = Calling(hang)
    worker = effect_runner(queue, slow, lease=timedelta(seconds=0.3))
    worker.start()
    try:
        wait_until(lambda: len(slow.calls) == 2)
        held = {row.lease: row.due_at for row in queue.rows() if row.lease}
        queue.later(seconds=0.2)
        wait_until(
            lambda: all(row.due_at > held[row.lease] for row in queue.rows() if row.lease in held)
        )
        per_project = Counter(row.project_id for row in queue.rows() if row.lease)
        assert per_project == {1: 1, 2: 1}  # of four, and a third project gets its one
    finally:
        released.set()
        worker.stop()
    assert sorted(slow.calls) == sorted(slow.recorded)


@pytest.mark.parametrize(
    ("point", "calls"), [("tool_begun", 1), ("tool_performed", 2), ("tool_recorded", 1)]
)
def test_an_effect_whose_process_ends_is_taken_up_by_the_next(sqlite_queue, point, calls):
    """Between `tool_performed` and its record nobody can know: the next worker's `begin` decides,
    and this one repeats."""
    queue = sqlite_queue
    queue.add()
    effect = Calling()
    failpoints.configure(f"{point}=error")
    dying = effect_runner(queue, effect)
    dying._beginning._alone = dying._recording._alone = _dies
    try:
        dying.look()
    except failpoints.Fault:
        assert point == "tool_begun"
    dying._pool.shutdown()
    try:
        dying.record()
    except failpoints.Fault:
        assert point == "tool_recorded"
    failpoints.configure("")
    queue.later(minutes=1)
    run_until(effect_runner(queue, effect), lambda: queue.count() == 0)
    assert len(effect.calls) == calls


def test_a_session_tells_which_queues_it_added_to(sqlite_queue):
    with sqlite_queue.database.concurrent(EVERY_ROW) as session:
        enqueue(session, [NewTask(1, name, name, 1, "kind") for name in "ab"], sqlite_queue.now)
    assert enqueued_in(session) == {"a", "b"}


def test_a_runner_that_is_stopped_keeps_what_it_performs_until_it_is_recorded(sqlite_queue):
    """Also for longer than the lease: else the next worker takes over what is still going on."""
    queue = sqlite_queue
    queue.add()
    going, released = threading.Event(), threading.Event()

    def hang(_):
        going.set()
        released.wait(30)

    slow = Calling(hang)
    lease = timedelta(seconds=0.3)
    worker = effect_runner(queue, slow, lease=lease)
    worker.start()
    stopping = threading.Thread(target=worker.stop)
    try:
        assert going.wait(90)
        stopping.start()
        wait_until(lambda: not worker._loop._thread.is_alive())
        for _ in range(3):
            held = queue.only().due_at
            queue.later(seconds=0.2)
            wait_until(lambda held=held: queue.only().due_at > held)
            assert effect_runner(queue, slow).look() is False
    finally:
        released.set()
        stopping.join()
    assert slow.recorded == ["lane.1"]
    assert queue.count() == 0


def test_as_many_workers_perform_as_many_effects_of_one_project(sqlite_queue):
    queue = sqlite_queue
    queue.add_lanes(20)
    released = threading.Event()
    slow = Calling(lambda _: released.wait(30) and None)
    workers = [effect_runner(queue, slow) for _ in range(3)]
    for worker in workers:
        worker.start()
    try:
        wait_until(lambda: len(slow.calls) >= 6)
        for worker in workers:
            worker.turn(10)
        assert len(slow.calls) == 6  # half of four places each
    finally:
        released.set()
        for worker in workers:
            worker.stop()
