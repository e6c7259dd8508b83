"""A deleted project: its tombstone at once, all it had soon after, whatever comes between."""

import threading
from datetime import timedelta

import pytest
from sqlalchemy import text

from nilometer.access.deletion import DeletionWorker, Tombstones
from nilometer.access.keyring import Keyring
from nilometer.access.types import (
    OPERATOR,
    Authority,
    DeletionState,
    KeyKind,
    Scope,
    UnknownKey,
)
from nilometer.database.fence import EVERY_ROW
from nilometer.domain import clock
from nilometer.errors import InvalidInput, NotFound, Unavailable


class Parts:
    """What a project has, by kind: a deletion takes it, or fails as it is told to."""

    def __init__(self):
        self.held = {"rows": 30, "blobs": 3, "dead_letters": 2}
        self.failing = set()
        self.order = []
        self.settle_fails = False

    def settle(self):
        self.order.append("settle")
        if self.settle_fails:
            raise Unavailable("a batch is under way")

    def step(self, kind):
        def erase(project_id, stopping):
            self.order.append(kind)
            if kind in self.failing:
                raise Unavailable("away", code=f"{kind}_unavailable")
            found, self.held[kind] = self.held[kind], 0
            return found

        return erase


@pytest.fixture
def parts():
    return Parts()


@pytest.fixture
def make_worker(database, parts):
    def make(**settings):
        erase = {kind: parts.step(kind) for kind in parts.held}
        return DeletionWorker(database, settle=parts.settle, erase=erase, **settings)

    return make


@pytest.fixture
def project(accounts, issued):
    return accounts.projects.create_with_key("doomed")


def test_a_tombstone_ends_the_project_for_everyone_at_once(
    accounts, database, project, monkeypatch
):
    # A look-up that a busy machine holds up is no database that hangs: memory would answer for it.
    monkeypatch.setattr("nilometer.access.keyring._PATIENCE_SECONDS", 60)
    info, key = project
    keyring = Keyring(database, default_retention_days=30, fresh_seconds=0)
    keyring.authenticate_blocking(key.token)
    deletion = accounts.projects.delete(info.project_id)
    assert deletion.state is DeletionState.PENDING
    with pytest.raises(UnknownKey):
        keyring.authenticate_blocking(key.token)
    keyring.close()
    for gone in (
        lambda: accounts.projects.get(info.project_id),
        lambda: accounts.projects.delete(info.project_id),
        lambda: accounts.projects.change(info.project_id, name="back"),
        lambda: accounts.projects.rotate(info.project_id),
        lambda: accounts.keys.rotate(key.key_id),
        lambda: accounts.keys.get(key.key_id),
        lambda: accounts.keys.list(info.project_id),
    ):
        with pytest.raises(NotFound):
            gone()
    assert Tombstones(database).among({1, info.project_id, 2**70, -1}) == {info.project_id}


def test_everything_is_deleted_in_order_and_counted(
    accounts, database, project, parts, make_worker
):
    info, _ = project
    accounts.projects.change(info.project_id, dropped_distinct_ids=["ada"])
    accounts.projects.delete(info.project_id)
    assert make_worker().run_once() == 1
    assert parts.order == ["settle", "rows", "blobs", "dead_letters"]
    done = accounts.projects.deletion(info.project_id)
    assert (done.state, done.rows, done.blobs, done.dead_letters, done.keys) == (
        DeletionState.DELETED,
        30,
        3,
        2,
        1,
    )
    assert done.finished_at
    assert done.verified_at is None
    with database.read(EVERY_ROW) as session:
        of_project = text("select count(*) from api_keys where project_id = :id")
        assert session.scalar(of_project, {"id": info.project_id}) == 0


def test_an_id_is_never_used_again(accounts, project, make_worker):
    info, _ = project
    accounts.projects.delete(info.project_id)
    make_worker().run_once()
    assert accounts.create_project("next").project_id > info.project_id


@pytest.mark.parametrize("kind", ["rows", "blobs", "dead_letters"])
def test_a_part_that_is_down_is_waited_for_and_named(accounts, project, parts, make_worker, kind):
    project_id = project[0].project_id
    accounts.projects.delete(project_id)
    parts.failing = {kind}
    worker = make_worker()
    assert worker.run_once() == 0
    waiting = accounts.projects.deletion(project_id)
    assert (waiting.state, waiting.last_error) == (DeletionState.DELETING, f"{kind}_unavailable")
    assert waiting.finished_at is None
    parts.failing = set()
    assert worker.run_once() == 1
    done = accounts.projects.deletion(project_id)
    assert (done.state, done.last_error, done.attempts) == (DeletionState.DELETED, None, 2)
    assert (done.rows, done.blobs, done.dead_letters) == (30, 3, 2)


def test_nothing_is_deleted_before_the_batch_under_way_has_ended(
    accounts, project, parts, make_worker
):
    accounts.projects.delete(project[0].project_id)
    parts.settle_fails = True
    assert make_worker().run_once() == 0
    assert parts.order == ["settle"]
    assert parts.held["rows"] == 30


def test_one_that_fails_does_not_keep_the_others(accounts, issued, database):
    first, second = (accounts.create_project(name).project_id for name in ("a", "b"))
    for project_id in (first, second):
        accounts.projects.delete(project_id)

    def erase(project_id, stopping):
        if project_id == first:
            raise Unavailable("away")
        return 0

    worker = DeletionWorker(database, settle=lambda: None, erase={"rows": erase})
    assert worker.run_once() == 1
    assert accounts.projects.deletion(second).state is DeletionState.DELETED


def test_a_crash_between_two_steps_is_taken_up_again(accounts, project, parts, make_worker):
    project_id = project[0].project_id
    accounts.projects.delete(project_id)

    class Killed(BaseException):
        pass

    def die(project_id, stopping):
        raise Killed

    worker = make_worker()
    worker._erase = {**worker._erase, "dead_letters": die}
    with pytest.raises(Killed):
        worker.run_once()
    assert accounts.projects.deletion(project_id).state is DeletionState.DELETING
    assert make_worker().run_once() == 1
    done = accounts.projects.deletion(project_id)
    assert (done.rows, done.blobs, done.dead_letters, done.attempts) == (30, 3, 2, 2)


def test_late_comers_are_looked_for_once_more_and_then_never(accounts, project, parts, make_worker):
    project_id = project[0].project_id
    accounts.projects.delete(project_id)
    now = clock.now()
    worker = make_worker(now=lambda: now)
    assert worker.run_once() == 1
    assert worker.run_once() == 0, "too early for another look"
    parts.held["blobs"] = 1  # of an upload that was under way
    now += timedelta(minutes=21)
    assert worker.run_once() == 1
    done = accounts.projects.deletion(project_id)
    assert (done.blobs, done.verified_at) == (4, now)
    assert worker.run_once() == 0
    told = accounts.audit.list(limit=50).entries
    assert [entry.action for entry in told].count("project.deleted") == 1


def test_the_thread_is_woken_and_ends_when_told(accounts, project, parts, make_worker):
    deleted = threading.Event()
    worker = make_worker(interval=3600)
    worker._erase = {"rows": lambda project_id, stopping: deleted.set() or 0}
    worker.start()
    try:
        accounts.projects.delete(project[0].project_id)
        worker.wake()
        assert deleted.wait(90)
    finally:
        worker.stop()
    assert not worker._thread.is_alive()


def test_deleting_an_organization_deletes_its_projects_and_keys(
    accounts, database, issued, make_worker
):
    made, keys = accounts.organizations.create("theirs")
    second = accounts.create_project("second", organization_id=made.organization_id)
    deletions = accounts.organizations.delete(made.organization_id)
    assert {each.project_id for each in deletions} == {keys.project_id, second.project_id}
    keyring = Keyring(database, default_retention_days=30, fresh_seconds=0)
    for key in (keys.personal_key, keys.project_key):
        with pytest.raises(UnknownKey):
            keyring.authenticate_blocking(key.token)
    keyring.close()
    with pytest.raises(NotFound):
        accounts.organizations.get(made.organization_id)
    with pytest.raises(NotFound):
        accounts.create_project("more", organization_id=made.organization_id)
    assert make_worker().run_once() == 2
    assert [each.name for each in accounts.organizations.list()] == ["default"]


@pytest.mark.parametrize("of_its_own", [False, True])
def test_the_first_organization_stays_and_can_be_operated_again(
    accounts, database, issued, of_its_own
):
    first = issued.organization_id
    who = Authority("key:k", None, first) if of_its_own else OPERATOR
    accounts.organizations.create("second")
    accounts.projects.delete(issued.project_id)
    with pytest.raises(InvalidInput, match="first organization") as refused:
        accounts.acting_as(who).organizations.delete(first)
    assert refused.value.code == "first_organization"
    assert accounts.bootstrap(None) is None
    project = accounts.projects.create("after", organization_id=first)
    made = accounts.keys.create(
        kind=KeyKind.PERSONAL, project_id=project.project_id, name="n", scopes=[Scope.OPERATE]
    )
    keyring = Keyring(database, default_retention_days=30)
    principal = keyring.authenticate_blocking(made.token)
    keyring.close()
    assert accounts.organizations.is_first(principal.organization_id)
