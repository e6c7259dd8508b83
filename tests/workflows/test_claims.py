"""Who works on what: one of a lane at a time, in order, under a lease, fairly over projects."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nilometer.access.accounts import Accounts
from nilometer.access.projects import Projects
from nilometer.access.types import CaptureMode
from nilometer.database.fence import EVERY_ROW
from nilometer.workflows import settling
from nilometer.workflows.claims import Claims
from nilometer.workflows.dead_letters import discard
from nilometer.workflows.enqueueing import count_dead, count_waiting
from nilometer.workflows.task import Failure
from tests.database.migrated import migrated
from tests.workflows.queues import LEASE, Queue, lanes


def test_a_task_is_claimed_once(queue):
    queue.add()
    [task] = queue.claim()
    assert (task.lane, task.sequence, task.attempts, task.losses) == ("lane", 1, 1, 0)
    assert queue.claim() == []


def test_of_a_lane_the_first_task_alone_is_claimed_until_it_is_done(queue):
    for sequence in (3, 1, 2):
        queue.add(sequence=sequence)
    claims = queue.claims()
    for sequence in (1, 2, 3):
        claimed = claims.claim(10, queue.now)
        assert [task.sequence for task in claimed] == [sequence]
        assert claims.claim(10, queue.now) == []
        queue.finish(claimed)
    assert queue.count() == 0


def test_a_lane_waits_for_a_task_of_another_queue_too(queue):
    queue.add(sequence=1, queue="other")
    queue.add(sequence=2)
    assert queue.claim() == []


def test_lanes_of_the_same_name_in_two_projects_do_not_wait_for_each_other(queue):
    queue.add(project=1)
    queue.add(project=2)
    assert Counter(task.project_id for task in queue.claim()) == {1: 1, 2: 1}


def test_a_task_is_not_claimed_before_its_time_and_its_lane_waits(queue):
    queue.add(sequence=1, due_at=queue.now + timedelta(seconds=10))
    queue.add(sequence=2)
    assert not queue.claims().due(queue.now - timedelta(seconds=1))
    assert queue.claim() == []
    queue.later(seconds=11)
    assert [task.sequence for task in queue.claim()] == [1]


def test_a_task_of_a_kind_that_a_worker_does_not_know_is_left_for_one_that_does(queue):
    queue.add("older")
    queue.add("newer", kind="kind of a later release")
    old = Claims(queue.database, "work", lease=LEASE, kinds=frozenset({"kind"}))
    assert lanes(old.claim(10, queue.now)) == ["older"]
    queue.later(seconds=90)
    for _ in range(2):  # every other claim looks for what workers died with
        assert set(lanes(old.claim(10, queue.now))) <= {"older"}
    assert lanes(queue.claim()) == ["newer"]


def test_what_waits_for_a_worker_is_counted_and_what_waits_for_a_person_apart_from_it(queue):
    queue.add_lanes(3)
    dead, leased, discarded = queue.claim(3)
    with queue.database.concurrent(EVERY_ROW) as session:
        for task in (dead, discarded):
            settling.bury(session, task, Failure("refused", "It refused."), queue.now)
        discard(session, 1, discarded.id, by="key:ada", because="gone", now=queue.now)
    queue.add("later", queue="other", due_at=queue.now + timedelta(hours=1))
    queue.add("theirs", project=2)

    def counted(most=100):
        with queue.database.read(EVERY_ROW) as session:
            return count_waiting(session, 1, most), count_dead(session, 1, most)

    assert counted() == (2, 1)
    queue.finish([leased])
    assert counted() == (1, 1)
    assert counted(most=0) == (0, 0)


def test_a_lost_lease_settles_nothing(queue):
    queue.add()
    slow = queue.claim()
    queue.later(seconds=LEASE.total_seconds() + 1)
    [taken_over] = queue.claim()
    assert (taken_over.attempts, taken_over.losses) == (1, 1)
    assert queue.finish(slow) == []
    with queue.database.concurrent(EVERY_ROW) as session:
        settling.finish(session, slow)
        settling.retry(session, slow[0], Failure("c", "d"), queue.now)
        settling.bury(session, slow[0], Failure("c", "d"), queue.now)
        settling.release(session, slow, queue.now)
    assert queue.only().lease == taken_over.lease
    assert queue.finish([taken_over]) == [taken_over]
    assert queue.count() == 0


def test_who_is_only_late_still_settles_while_nobody_took_over(queue):
    queue.add()
    claimed = queue.claim()
    queue.later(hours=1)
    assert queue.finish(claimed) == claimed


def test_what_workers_died_with_twice_comes_alone_and_keeps_nobody_waiting(queue):
    queue.add("killer")
    for _ in range(2):
        assert lanes(queue.claim()) == ["killer"]
        queue.later(minutes=1)
    queue.add_lanes(3)
    claims = queue.claims()
    batches = [sorted(lanes(claims.claim(10, queue.now))) for _ in range(2)]
    assert sorted(batches) == [["killer"], ["lane-00000", "lane-00001", "lane-00002"]]


def test_of_a_suspended_project_nothing_is_claimed_until_it_goes_on(queue):
    project = Accounts(queue.database).bootstrap(None).project_id
    queue.add("killer", project=project)
    for _ in range(3):
        queue.claim()
        queue.later(minutes=1)
    queue.add_lanes(3, project=project)
    queue.add("other", project=project + 1)
    projects = Projects(queue.database)
    projects.change(project, mode=CaptureMode.OVER_QUOTA)
    claims = queue.claims()
    found = [task for _ in range(4) for task in claims.claim(10, queue.now)]
    assert lanes(found) == ["other"]
    assert not claims.due(queue.now)
    projects.change(project, mode=CaptureMode.ACCEPT)
    assert claims.due(queue.now)
    found = [task for _ in range(2) for task in claims.claim(10, queue.now)]
    assert sorted(lanes(found)) == ["killer", "lane-00000", "lane-00001", "lane-00002"]


def test_a_flood_of_one_project_takes_only_what_others_leave(queue):
    queue.add_lanes(200, project=1)
    for project in range(2, 12):
        queue.add_lanes(5, project=project)
    claimed = Counter(task.project_id for task in queue.claim(110))
    assert claimed == {1: 60} | dict.fromkeys(range(2, 12), 5)


def test_a_weight_of_three_gets_three_times_as_much(queue):
    for project in (1, 2):
        queue.add_lanes(100, project=project)
    claimed = queue.claim(40, weight_of=lambda project: 3 if project == 2 else 1)
    assert Counter(task.project_id for task in claimed) == {1: 10, 2: 30}


def test_with_fewer_places_than_projects_each_gets_its_turn(queue):
    for project in range(1, 101):
        queue.add_lanes(10, project=project)
    claims = queue.claims()
    seen = Counter(task.project_id for _ in range(100) for task in claims.claim(3, queue.now))
    assert set(seen.values()) == {3}


def test_of_a_project_a_worker_has_no_more_in_hand_than_half_of_what_others_leave(queue):
    queue.add_lanes(50, project=1)
    claims = queue.claims(places=16)
    in_hand = Counter(task.project_id for task in claims.claim(16, queue.now))
    assert in_hand == {1: 8}
    for project in range(2, 6):  # each comes when those before it hang
        queue.add_lanes(50, project=project)
        claimed = claims.claim(16 - in_hand.total(), queue.now, in_hand)
        in_hand.update(task.project_id for task in claimed)
    assert in_hand == {1: 8, 2: 4, 3: 2, 4: 1, 5: 1}


def test_projects_that_want_places_at_once_get_as_many_and_leave_as_many(queue):
    for project in (1, 2, 3):
        queue.add_lanes(50, project=project)
    claimed = queue.claims(places=16).claim(16, queue.now)
    assert Counter(task.project_id for task in claimed) == {1: 4, 2: 4, 3: 4}
    claimed = queue.claims(places=16).claim(4, queue.now, {1: 8, 2: 4})
    assert Counter(task.project_id for task in claimed) == {3: 2}
    assert len(queue.claims(places=1).claim(1, queue.now)) == 1


def test_who_has_more_than_its_share_gets_no_more_until_it_has_less(queue):
    for project in (1, 2):
        queue.add_lanes(50, project=project)
    claims, in_hand = queue.claims(places=12), Counter({1: 6})
    for _ in range(4):  # one is done, and places are claimed again
        in_hand[1] -= 1
        claimed = claims.claim(12 - in_hand.total(), queue.now, in_hand)
        in_hand.update(task.project_id for task in claimed)
    assert in_hand == {1: 4, 2: 4}


def test_of_a_key_no_more_are_worked_at_once_than_its_limit_and_others_pass(queue):
    queue.add_lanes(30, project=1, limit_key="slow-tool", limit=2)
    queue.add_lanes(3, project=2, limit_key="slow-tool", limit=2)
    queue.add("other", limit_key="fast-tool", limit=5)
    queue.add("free")
    claims = queue.claims(keyed=True)
    claimed = claims.claim(20, queue.now)
    keys = Counter((task.project_id, task.limit_key) for task in claimed)
    assert keys == {(1, "slow-tool"): 2, (2, "slow-tool"): 2, (1, "fast-tool"): 1, (1, None): 1}
    assert claims.claim(20, queue.now) == []
    queue.finish([task for task in claimed if task.project_id == 2])
    assert [task.project_id for task in claims.claim(20, queue.now)] == [2]


def test_a_limit_that_was_lowered_holds_for_the_next_task(queue):
    for lane in "ab":
        queue.add(lane, limit_key="tool", limit=5)
    assert len(queue.claim(keyed=True)) == 2
    queue.add("c", limit_key="tool", limit=2)
    assert queue.claim(keyed=True) == []


def test_a_lane_whose_first_task_is_dead_waits(queue):
    queue.add(sequence=1)
    queue.add(sequence=2)
    [task] = queue.claim()
    with queue.database.concurrent(EVERY_ROW) as session:
        settling.bury(session, task, Failure("c", "d"), queue.now)
    queue.later(days=30)
    assert queue.claim() == []


def test_many_workers_at_once_never_claim_the_same_task(queue):
    queue.add_lanes(300)

    def worker(_: int) -> list[str]:
        claims, mine = queue.claims(), []
        while claims.due(queue.now):
            claimed = claims.claim(20, queue.now)
            queue.finish(claimed)
            mine += lanes(claimed)
        return mine

    with ThreadPoolExecutor(4) as threads:
        done = [lane for mine in threads.map(worker, range(4)) for lane in mine]
    assert len(done) == 300
    assert len(set(done)) == 300


def test_many_workers_at_once_keep_a_limit(queue):
    queue.add_lanes(60, limit_key="tool", limit=3)
    with ThreadPoolExecutor(4) as threads:
        claimed = list(
            threads.map(lambda _: queue.claims(keyed=True).claim(10, queue.now), range(8))
        )
    assert sum(map(len, claimed)) == 3


OPERATION = st.one_of(
    st.tuples(st.just("add"), st.integers(1, 3), st.integers(0, 3)),
    st.tuples(st.just("claim"), st.integers(0, 1), st.integers(1, 4)),
    st.tuples(st.just("finish"), st.integers(0, 20), st.just(0)),
    st.tuples(st.just("retry"), st.integers(0, 20), st.integers(0, 40)),
    st.tuples(st.just("bury"), st.integers(0, 20), st.just(0)),
    st.tuples(st.just("wait"), st.integers(1, 40), st.just(0)),
)


class Model:
    """What must be true of lanes, whatever workers do. The clock of a test decides who is late."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self.workers = [queue.claims(places=6), queue.claims(places=6)]
        self.sequences: Counter = Counter()
        self.done: dict = {}
        self.claimed: list = []  # (task, when its lease ends, the worker)

    def run(self, name: str, first: int, second: int) -> None:
        getattr(self, name)(first, second)

    def add(self, project: int, lane: int) -> None:
        key = project, f"lane-{lane}"
        self.sequences[key] += 1
        self.queue.add(key[1], self.sequences[key], project)

    def claim(self, worker: int, places: int) -> None:
        now = self.queue.now
        claimed = self.workers[worker].claim(places, now, self._in_hand_of(worker))
        held = {(t.project_id, t.lane) for t, until, _ in self.claimed if until > now}
        mine = [(task.project_id, task.lane) for task in claimed]
        assert len(claimed) <= places
        assert len(set(mine)) == len(mine)
        assert not held & set(mine)
        for task in claimed:
            assert task.sequence == self.done.get((task.project_id, task.lane), 0) + 1
        self.claimed += [(task, now + LEASE, worker) for task in claimed]
        assert max(self._in_hand_of(worker).values(), default=0) <= 3

    def _in_hand_of(self, worker: int) -> Counter:
        return Counter(task.project_id for task, _, whose in self.claimed if whose == worker)

    def finish(self, which: int, _: int) -> None:
        if task := self._pop(which):
            mine = self.queue.finish([task])
            for each in mine:
                self.done[each.project_id, each.lane] = each.sequence

    def retry(self, which: int, delay: int) -> None:
        if task := self._pop(which):
            due_at = self.queue.now + timedelta(seconds=delay)
            with self.queue.database.concurrent(EVERY_ROW) as session:
                settling.retry(session, task, Failure("c", "d"), due_at)

    def bury(self, which: int, _: int) -> None:
        if task := self._pop(which):
            with self.queue.database.concurrent(EVERY_ROW) as session:
                settling.bury(session, task, Failure("c", "d"), self.queue.now)

    def wait(self, seconds: int, _: int) -> None:
        self.queue.later(seconds=seconds)

    def _pop(self, which: int):
        return self.claimed.pop(which % len(self.claimed))[0] if self.claimed else None


@settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(operations=st.lists(OPERATION, min_size=10, max_size=40))
def test_whatever_workers_do_a_lane_is_done_in_order_one_at_a_time(operations, tmp_path: Path):
    with closing(migrated(tmp_path / "nilometer.db")) as database:
        model = Model(Queue(database))
        for operation in operations:
            model.run(*operation)
