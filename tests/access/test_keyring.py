"""The keyring trusts memory for so long and no longer, and says which of the two failed."""

import asyncio
import hashlib
import sqlite3
import threading
import timeit
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import pytest
from sqlalchemy import text

from nilometer.access.accounts import Accounts
from nilometer.access.keyring import Keyring
from nilometer.access.types import (
    AccessUnavailable,
    CaptureMode,
    KeyKind,
    Scope,
    UnknownKey,
)
from nilometer.database.engine import Database
from nilometer.database.fence import EVERY_ROW
from nilometer.errors import NotFound
from tests.database.reaching import away, url_of
from tests.running import wait_until


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now

    def advance(self, seconds):
        self.now += seconds


class WatchedDatabase(Database):
    """The real database; counts its reads, and can hold them back."""

    def __init__(self, url):
        super().__init__(url)
        self.reads = 0
        self.open = threading.Event()
        self.open.set()

    @contextmanager
    def read(self, rows):
        self.reads += 1
        assert self.open.wait(90)
        with super().read(rows) as session:
            yield session


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def watched(database):
    watched = WatchedDatabase(url_of(database))
    yield watched
    watched.open.set()
    watched.close()


@pytest.fixture
def keyring(watched, clock, monkeypatch):
    # A look-up that a busy machine holds up is no database that hangs: memory would answer for it.
    monkeypatch.setattr("nilometer.access.keyring._PATIENCE_SECONDS", 60)
    keyring = Keyring(watched, default_retention_days=30, max_unknown=10, clock=clock)
    yield keyring
    watched.open.set()
    keyring.close()


@pytest.fixture
def token(issued):
    return issued.project_key.token


@pytest.fixture
def settled(keyring):
    """Waits for every look-up under way, those in the background too."""
    return lambda: wait_until(lambda: not keyring._flights, seconds=10)


def outcome(keyring, token):
    try:
        return keyring.authenticate_blocking(token).key_id
    except (UnknownKey, AccessUnavailable) as error:
        return type(error)


def test_a_key_brings_its_project_and_rules(keyring, accounts, issued):
    accounts.projects.change(
        1, mode=CaptureMode.DROP, dropped_distinct_ids=["a", "b"], retention_days=7
    )
    principal = keyring.authenticate_blocking(issued.project_key.token)
    assert principal.organization_id == issued.organization_id
    assert principal.scopes == {Scope.CAPTURE}
    project = principal.project
    assert (project.project_id, project.version, project.capture) == (1, 2, CaptureMode.DROP)
    assert (project.dropped_distinct_ids, project.retention_days) == ({"a", "b"}, 7)


def test_a_project_without_retention_follows_the_setting(keyring, token):
    assert keyring.authenticate_blocking(token).project.retention_days == 30


def test_nothing_is_cached_before_the_first_look_up(keyring, token):
    assert keyring.cached(token) is None
    principal = keyring.authenticate_blocking(token)
    assert keyring.cached(token) is principal


def test_a_fresh_key_costs_no_look_up(keyring, token, watched):
    for _ in range(100):
        keyring.authenticate_blocking(token)
        asyncio.run(keyring.authenticate(token))
    assert watched.reads == 1


def test_wrong_revoked_and_deleted_are_refused_alike(keyring, accounts, issued, database):
    deleted = accounts.create_project("deleted")
    of_deleted = accounts.keys.create(
        kind=KeyKind.PROJECT, project_id=deleted.project_id, name="n", scopes=()
    )
    with database.session(EVERY_ROW) as session:
        session.execute(text("update projects set tombstoned_at = '2026-01-01' where id = 2"))
    accounts.keys.revoke(issued.project_key.key_id)
    said = set()
    for token in (
        issued.project_key.token,
        of_deleted.token,
        "nlm_proj_wrong",
        "",
        "a" * 65,
        "é",
        "\ud800",
        issued.personal_key.token + " ",
        issued.personal_key.token.upper(),
    ):
        with pytest.raises(UnknownKey) as caught:
            keyring.authenticate_blocking(token)
        said.add((caught.value.code, caught.value.detail, caught.value.attr))
        assert keyring.cached(token) is None
    assert len(said) == 1


def test_the_stored_hash_is_no_token(keyring, token):
    assert outcome(keyring, hashlib.sha256(token.encode()).hexdigest()) is UnknownKey


def test_a_key_revoked_by_another_process_is_refused_within_five_seconds(
    keyring, accounts, issued, clock
):
    token = issued.project_key.token
    keyring.authenticate_blocking(token)
    accounts.keys.revoke(issued.project_key.key_id)  # through its own connections
    clock.advance(2.4)
    assert keyring.cached(token) is not None
    clock.advance(2.6)
    assert keyring.cached(token) is None
    with pytest.raises(UnknownKey):
        keyring.authenticate_blocking(token)


def test_a_key_in_steady_use_is_refreshed_in_the_background(
    keyring, accounts, issued, clock, watched, settled
):
    token = issued.project_key.token
    keyring.authenticate_blocking(token)
    accounts.projects.change(1, mode=CaptureMode.DROP)
    clock.advance(2.5)
    watched.open.clear()
    stale = [keyring.cached(token) for _ in range(1000)]
    assert all(principal.project.capture is CaptureMode.ACCEPT for principal in stale)
    watched.open.set()
    settled()
    assert watched.reads == 2, "a thousand uses made one refresh"
    assert keyring.cached(token).project.capture is CaptureMode.DROP
    clock.advance(4.9)
    assert keyring.cached(token) is not None, "its five seconds count from the refresh"


def test_a_refresh_that_fails_is_tried_again_once_a_second(keyring, token, clock, watched, settled):
    keyring.authenticate_blocking(token)
    clock.advance(2.5)
    with away(watched):
        for _ in range(20):
            assert keyring.cached(token) is not None
            settled()
        assert watched.reads == 2
        clock.advance(1)
        assert keyring.cached(token) is not None
        settled()
        assert watched.reads == 3


def test_a_refresh_counts_from_when_it_began(keyring, token, clock, watched, settled):
    keyring.authenticate_blocking(token)
    clock.advance(2.5)
    watched.open.clear()
    keyring.cached(token)
    wait_until(lambda: watched.reads == 2, seconds=10)
    clock.advance(2.4)
    watched.open.set()
    settled()
    clock.advance(2.6)
    assert keyring.cached(token) is None, "what it read was 5 seconds old"


def test_changed_rules_take_effect_within_five_seconds(keyring, accounts, token, clock):
    keyring.authenticate_blocking(token)
    accounts.projects.change(1, mode=CaptureMode.OVER_QUOTA)
    clock.advance(5)
    assert keyring.authenticate_blocking(token).project.capture is CaptureMode.OVER_QUOTA


def test_a_new_key_works_at_once(keyring, accounts, token):
    keyring.authenticate_blocking(token)
    made = accounts.keys.create(kind=KeyKind.PROJECT, project_id=1, name="n", scopes=())
    assert outcome(keyring, made.token) == made.key_id


def test_the_same_wrong_key_is_looked_up_once_in_five_seconds(keyring, watched, clock, issued):
    for _ in range(100):
        assert outcome(keyring, "nlm_proj_wrong") is UnknownKey
    assert watched.reads == 1
    clock.advance(5)
    assert outcome(keyring, "nlm_proj_wrong") is UnknownKey
    assert watched.reads == 2


def test_a_flood_of_wrong_keys_takes_bounded_memory_and_spares_known_ones(keyring, token, watched):
    keyring.authenticate_blocking(token)
    for number in range(50):
        assert outcome(keyring, f"nlm_proj_{number}") is UnknownKey
    assert len(keyring._unknown) == 10
    assert keyring.cached(token) is not None


def test_many_requests_of_a_cold_key_share_one_look_up(keyring, token, watched):
    async def flood():
        waiting = [asyncio.ensure_future(keyring.authenticate(token)) for _ in range(200)]
        await asyncio.sleep(0)
        watched.open.set()
        return await asyncio.gather(*waiting)

    watched.open.clear()
    assert len({principal.key_id for principal in asyncio.run(flood())}) == 1
    assert watched.reads == 1


def test_threads_share_one_look_up_too(keyring, token, watched):
    watched.open.clear()
    with ThreadPoolExecutor(20) as threads:
        waiting = [threads.submit(keyring.authenticate_blocking, token) for _ in range(20)]
        wait_until(lambda: watched.reads == 1, seconds=10)
        watched.open.set()
        assert len({future.result(90).key_id for future in waiting}) == 1
    assert watched.reads == 1


def test_a_client_that_hangs_up_cancels_nobody_else(keyring, token, watched):
    async def scenario():
        # Every look-up thread is busy, so the one that both wait for can still be cancelled.
        busy = [asyncio.ensure_future(keyring.authenticate(f"nlm_{n}")) for n in range(8)]
        first = asyncio.ensure_future(keyring.authenticate(token))
        second = asyncio.ensure_future(keyring.authenticate(token))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        watched.open.set()
        refused = await asyncio.gather(*busy, return_exceptions=True)
        return first, await second, refused

    watched.open.clear()
    first, principal, refused = asyncio.run(scenario())
    assert first.cancelled()
    assert principal.project.project_id == 1
    assert {type(error) for error in refused} == {UnknownKey}


def test_a_look_up_blocks_no_event_loop(keyring, token, watched):
    async def scenario():
        waiting = asyncio.ensure_future(keyring.authenticate(token))
        for _ in range(100):
            await asyncio.sleep(0)
        assert not waiting.done()
        watched.open.set()
        return await waiting

    watched.open.clear()
    assert asyncio.run(scenario()).project.project_id == 1


def test_known_keys_go_on_for_ten_minutes_without_the_database(
    keyring, issued, token, watched, clock, settled
):
    key_id = keyring.authenticate_blocking(token).key_id
    with away(watched):
        clock.advance(6)
        assert outcome(keyring, token) == key_id
        clock.advance(593)
        assert outcome(keyring, token) == key_id
        clock.advance(2)
        assert outcome(keyring, token) is AccessUnavailable
        assert outcome(keyring, "nlm_proj_wrong") is AccessUnavailable
        settled()
    clock.advance(5)
    assert outcome(keyring, token) == key_id
    assert outcome(keyring, "nlm_proj_wrong") is UnknownKey


def test_nobody_is_called_unknown_while_nobody_can_look(keyring, issued, watched):
    with away(watched):
        assert outcome(keyring, issued.project_key.token) is AccessUnavailable
        assert outcome(keyring, "nlm_proj_wrong") is AccessUnavailable
        with pytest.raises(AccessUnavailable) as caught:
            asyncio.run(keyring.authenticate("nlm_proj_wrong"))
    assert caught.value.retry_after > 0


def test_a_key_just_refused_stays_refused_without_the_database(keyring, watched, issued, clock):
    assert outcome(keyring, "nlm_proj_wrong") is UnknownKey
    with away(watched):
        clock.advance(4)
        assert outcome(keyring, "nlm_proj_wrong") is UnknownKey
        clock.advance(1)
        assert outcome(keyring, "nlm_proj_wrong") is AccessUnavailable


def test_a_down_database_is_not_asked_by_every_request(keyring, issued, token, watched, clock):
    keyring.authenticate_blocking(token)
    clock.advance(6)
    with away(watched):
        outcome(keyring, token)
        asked = watched.reads
        for number in range(500):
            assert outcome(keyring, token) not in (UnknownKey, AccessUnavailable)
            assert outcome(keyring, f"nlm_proj_{number}") is AccessUnavailable
        assert watched.reads == asked


def test_a_known_key_does_not_wait_for_a_database_that_hangs(
    keyring, token, watched, clock, settled
):
    key_id = keyring.authenticate_blocking(token).key_id
    clock.advance(6)
    with away(watched):
        assert outcome(keyring, token) == key_id
        watched.open.clear()
        clock.advance(1)
        for _ in range(100):
            assert outcome(keyring, token) == key_id, "the attempt in the background hangs"
            assert outcome(keyring, "nlm_proj_wrong") is AccessUnavailable
        clock.advance(20)
        assert outcome(keyring, token) == key_id
        watched.open.set()
        settled()


@pytest.mark.parametrize("loop", [False, True])
def test_the_first_look_up_that_hangs_holds_nobody_with_a_known_key(
    keyring, accounts, issued, watched, clock, settled, loop, monkeypatch
):
    monkeypatch.setattr("nilometer.access.keyring._PATIENCE_SECONDS", 1.0)  # as it is

    def asked(token):
        if not loop:
            return outcome(keyring, token)
        try:
            return asyncio.run(keyring.authenticate(token)).key_id
        except UnknownKey:
            return UnknownKey

    token, other = issued.project_key.token, issued.personal_key.token
    key_id, other_id = asked(token), asked(other)
    clock.advance(6)
    watched.open.clear()
    reads = watched.reads
    for _ in range(20):
        assert (asked(token), asked(other)) == (key_id, other_id)
    assert watched.reads <= reads + 2, "what hangs is waited for, not asked again"
    accounts.keys.revoke(key_id)
    watched.open.set()
    settled()
    assert asked(token) is UnknownKey, "the database answers again, and is believed"


def test_a_database_that_came_back_is_believed_within_a_second_of_use(
    keyring, accounts, issued, watched, clock, settled
):
    token = issued.project_key.token
    key_id = keyring.authenticate_blocking(token).key_id
    clock.advance(6)
    with away(watched):
        assert outcome(keyring, token) == key_id
    accounts.keys.revoke(key_id)
    clock.advance(1)
    assert outcome(keyring, token) == key_id, "this use started the attempt"
    settled()
    assert outcome(keyring, token) is UnknownKey


def test_an_old_failure_excuses_nothing(keyring, accounts, issued, watched, clock):
    """Down, then back and a key revoked, and only then the next request: it must look."""
    token = issued.project_key.token
    keyring.authenticate_blocking(token)
    clock.advance(6)
    with away(watched):
        outcome(keyring, token)
    accounts.keys.revoke(issued.project_key.key_id)
    clock.advance(5)
    assert outcome(keyring, token) is UnknownKey


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_broken_database_is_the_same_as_one_away(keyring, token, watched, clock):
    """Not a database any more: what a broken disk or a bad restore leaves."""
    key_id = keyring.authenticate_blocking(token).key_id
    clock.advance(6)
    with closing(sqlite3.connect(watched.path)) as connection:
        # All into the one file, because the log beside it would be taken for the broken one's.
        connection.execute("pragma wal_checkpoint(truncate)")
    whole = watched.path.rename(watched.path.with_suffix(".whole"))
    watched.path.write_bytes(b"broken" * 1000)
    assert outcome(keyring, token) == key_id
    assert outcome(keyring, "nlm_proj_wrong") is AccessUnavailable
    whole.rename(watched.path)
    clock.advance(5)
    assert outcome(keyring, token) == key_id


def test_a_bug_in_one_look_up_is_no_outage_for_others(keyring, issued, database, clock):
    keyring.authenticate_blocking(issued.personal_key.token)
    with database.session(EVERY_ROW) as session:
        session.execute(
            text("update api_keys set kind = 'of a newer version' where id = :id"),
            {"id": issued.project_key.key_id.replace("-", "")},
        )
    with pytest.raises(LookupError):
        keyring.authenticate_blocking(issued.project_key.token)
    clock.advance(6)
    assert outcome(keyring, issued.personal_key.token) == issued.personal_key.key_id
    assert outcome(keyring, "nlm_proj_wrong") is UnknownKey


def test_a_scope_of_a_newer_version_grants_nothing(keyring, issued, database):
    with database.session(EVERY_ROW) as session:
        session.execute(text("""update api_keys set scopes = '["read", "fly"]'"""))
    assert keyring.authenticate_blocking(issued.personal_key.token).scopes == {Scope.READ}


def test_a_personal_key_acts_on_its_organization_only(keyring, accounts, issued, database):
    other = "11111111-1111-4111-8111-111111111111"
    with database.session(EVERY_ROW) as session:
        session.execute(
            text(
                "insert into organizations (id, name, slug, created_at) "
                "values (:id, 'o', 'o', '2026-01-01 00:00:00')"
            ),
            {"id": other.replace("-", "")},
        )
    ours = accounts.create_project("ours", organization_id=issued.organization_id).project_id
    theirs = accounts.create_project("theirs", organization_id=other).project_id
    principal = keyring.authenticate_blocking(issued.personal_key.token)
    assert keyring.project_blocking(principal, 1) is principal.project
    assert keyring.project_blocking(principal, ours).project_id == ours
    said = set()
    for project_id in (theirs, 99, 0, -1, 2**31, 2**63, 2**100):
        with pytest.raises(NotFound) as caught:
            keyring.project_blocking(principal, project_id)
        said.add(caught.value.detail)
    assert len(said) == 1


def test_a_project_key_acts_on_its_own_project_only(keyring, accounts, issued, token):
    ours = accounts.create_project("ours").project_id
    principal = keyring.authenticate_blocking(token)
    assert keyring.project_blocking(principal, 1).project_id == 1
    with pytest.raises(NotFound):
        keyring.project_blocking(principal, ours)


def test_a_project_cannot_be_looked_up_without_the_database(keyring, issued, watched):
    principal = keyring.authenticate_blocking(issued.personal_key.token)
    with away(watched), pytest.raises(AccessUnavailable):
        keyring.project_blocking(principal, 2)


def test_a_closed_keyring_answers_from_memory_only(keyring, issued, token, clock):
    key_id = keyring.authenticate_blocking(token).key_id
    keyring.close()
    assert outcome(keyring, token) == key_id
    clock.advance(6)
    assert outcome(keyring, token) == key_id, "no look-up reached the database"
    assert outcome(keyring, "nlm_proj_wrong") is AccessUnavailable


def test_a_cached_answer_costs_a_few_hashes(keyring, token):
    """Measured beside the one SHA-256 it needs, so that a slow machine changes nothing."""
    keyring.authenticate_blocking(token)
    raw = token.encode()
    hashing = min(timeit.repeat(lambda: hashlib.sha256(raw).hexdigest(), number=500, repeat=40))
    cached = min(timeit.repeat(lambda: keyring.cached(token), number=500, repeat=40))
    assert cached < 6 * hashing, f"{cached / 500 * 1e6:.1f} µs, a hash {hashing / 500 * 1e6:.1f}"


def test_accounts_and_keyring_agree_under_churn(keyring, database, issued):
    """Keys made and revoked by threads while others authenticate: never a wrong answer."""
    accounts = Accounts(database)

    def churn(number):
        made = accounts.keys.create(
            kind=KeyKind.PROJECT, project_id=1, name=f"n{number}", scopes=()
        )
        assert outcome(keyring, made.token) == made.key_id
        return outcome(keyring, f"nlm_proj_{number}") is UnknownKey

    with ThreadPoolExecutor(16) as threads:
        assert all(threads.map(churn, range(64)))
