"""Who tries out keys is slowed; who shares an address with them, or asks wrongly, is not."""

import asyncio
import threading

import pytest

from nilometer.access import tokens
from nilometer.access.guessing import MAX_ADDRESSES, GuessLimiter
from nilometer.access.keyring import Keyring
from nilometer.access.types import AccessUnavailable, TooManyGuesses, UnknownKey
from tests.database.reaching import away
from tests.running import wait_until

ADDRESS = "192.0.2.1"


class Time:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def time():
    return Time()


@pytest.fixture
def keyring(database, time):
    guesses = GuessLimiter(burst=10, per_second=0.5, clock=time)
    keyring = Keyring(database, default_retention_days=30, fresh_seconds=0, guesses=guesses)
    yield keyring
    keyring.close()


def admit(keyring, token, address=ADDRESS):
    return asyncio.run(keyring.admit(token, address))


def guess(keyring, count, address=ADDRESS, start=0):
    for number in range(start, start + count):
        with pytest.raises(UnknownKey):
            admit(keyring, f"nlm_user_guess-{address}-{number}", address)


def test_a_guesser_is_slowed_to_the_allowance(keyring, time):
    guess(keyring, 10)
    with pytest.raises(TooManyGuesses) as caught:
        admit(keyring, "one more")
    assert caught.value.retry_after == 2
    time.now += 2
    guess(keyring, 1, start=100)
    with pytest.raises(TooManyGuesses):
        admit(keyring, "another")
    time.now += 3600
    guess(keyring, 10, start=200)
    with pytest.raises(TooManyGuesses):
        admit(keyring, "what is saved up is bounded")


def test_a_flood_of_wrong_keys_shuts_out_no_key_that_was_issued(keyring, accounts, issued):
    guess(keyring, 10)
    with pytest.raises(TooManyGuesses):
        admit(keyring, "nlm_user_" + "x" * 43)
    new = accounts.projects.rotate(1)
    for token in (issued.personal_key.token, new.token):
        for _ in range(20):
            admit(keyring, token)
    with pytest.raises(TooManyGuesses):  # what was right earned nothing
        admit(keyring, "one more")


def test_a_flood_after_a_restart_shuts_out_nobody_at_any_moment(keyring, issued):
    async def at_once():
        flood = [f"nlm_user_{number:043}" for number in range(300)]
        tried = (keyring.admit(token, ADDRESS) for token in [*flood, issued.project_key.token])
        return await asyncio.gather(*tried, return_exceptions=True)

    *wrong, right = asyncio.run(at_once())
    assert right.key_id == issued.project_key.key_id
    assert [type(each) for each in wrong] == [UnknownKey] * 10 + [TooManyGuesses] * 290


def test_a_line_that_is_full_refuses_and_empties_though_its_clients_go(
    keyring, issued, monkeypatch
):
    monkeypatch.setattr(keyring, "_line_room", threading.Semaphore(2))
    go = threading.Event()
    find = keyring._find
    monkeypatch.setattr(keyring, "_find", lambda digest: go.wait(30) and find(digest))

    async def crowd():
        in_line = [
            asyncio.ensure_future(keyring.admit(f"nlm_user_{number:043}", ADDRESS))
            for number in range(2)
        ]
        await asyncio.sleep(0)
        with pytest.raises(TooManyGuesses):
            await keyring.admit(issued.project_key.token, ADDRESS)
        for each in in_line:
            each.cancel()
        await asyncio.wait(in_line)
        with pytest.raises(TooManyGuesses):  # the look-ups are still under way
            await keyring.admit(issued.project_key.token, ADDRESS)
        go.set()
        await asyncio.to_thread(wait_until, lambda: keyring._line_room._value == 2)
        await keyring.admit(issued.project_key.token, ADDRESS)

    spent = GuessLimiter(burst=0)
    monkeypatch.setattr(keyring, "_guesses", spent)
    asyncio.run(crowd())


def test_others_do_not_wait_behind_the_line(keyring, issued, monkeypatch):
    go = threading.Event()
    find = keyring._find
    held = {tokens.digest(f"nlm_user_{number:043}") for number in range(50)}

    def slow(digest):
        if digest in held:
            go.wait(30)
        return find(digest)

    monkeypatch.setattr(keyring, "_find", slow)

    async def beside():
        in_line = [
            asyncio.ensure_future(keyring.admit(f"nlm_user_{number:043}", ADDRESS))
            for number in range(50)
        ]
        await asyncio.sleep(0)
        principal = await asyncio.wait_for(keyring.admit(issued.project_key.token, "::1"), 20)
        go.set()
        await asyncio.wait(in_line)
        return principal

    guess(keyring, 10)
    assert asyncio.run(beside()).key_id == issued.project_key.key_id


def test_a_right_guess_at_a_chosen_key_is_not_told_from_a_wrong_one_while_slowed(keyring, accounts):
    chosen = "chosen-by-an-operator"
    accounts.bootstrap(chosen)
    guess(keyring, 10)
    said = []
    for token in (chosen, "wrong", "nlm_user_" + "x" * 43):
        with pytest.raises(TooManyGuesses) as caught:
            admit(keyring, token)
        said.append((caught.value.detail, caught.value.retry_after))
    assert said[0] == said[1] == said[2]


def test_a_chosen_key_that_was_there_before_goes_on(keyring, accounts):
    chosen = "chosen-by-an-operator"
    accounts.bootstrap(chosen)
    admit(keyring, chosen)
    guess(keyring, 10)
    admit(keyring, chosen)


def test_while_slowed_a_revoked_key_is_a_wrong_one(keyring, accounts, issued):
    accounts.keys.revoke(issued.project_key.key_id)
    guess(keyring, 10)
    with pytest.raises(TooManyGuesses) as revoked:
        admit(keyring, issued.project_key.token)
    with pytest.raises(TooManyGuesses) as wrong:
        admit(keyring, "nlm_proj_" + "x" * 43)
    assert str(revoked.value) == str(wrong.value)


def test_a_wrong_key_is_not_told_from_a_revoked_one(keyring, accounts, issued):
    accounts.keys.revoke(issued.project_key.key_id)
    said = []
    for token in (issued.project_key.token, "nlm_proj_" + "x" * 43):
        with pytest.raises(UnknownKey) as caught:
            admit(keyring, token)
        said.append((caught.value.detail, caught.value.code))
    assert said[0] == said[1]
    guess(keyring, 8)
    with pytest.raises(TooManyGuesses):  # each of the two was one guess
        admit(keyring, "eleventh")


def test_a_client_that_was_there_before_goes_on_beside_a_guesser(keyring, issued):
    admit(keyring, issued.project_key.token)
    guess(keyring, 10)
    for _ in range(50):
        admit(keyring, issued.project_key.token)


def test_a_fleet_with_one_wrong_key_is_one_guess(keyring, issued):
    for _ in range(500):
        with pytest.raises(UnknownKey):
            admit(keyring, "stale key of a whole fleet")
    admit(keyring, issued.project_key.token)


def test_right_keys_cost_nothing(keyring, accounts, issued):
    tokens = [accounts.projects.rotate(1).token for _ in range(3)]
    guess(keyring, 9)
    with pytest.raises(UnknownKey):
        admit(keyring, tokens[0])  # rotated away: the last of the allowance
    fresh = Keyring(keyring._database, default_retention_days=30, guesses=GuessLimiter(burst=1))
    for token in (tokens[2], issued.personal_key.token):
        admit(fresh, token)
    fresh.close()


def test_while_nobody_can_look_nothing_is_a_guess(keyring, database):
    with away(database):
        for number in range(30):
            with pytest.raises(AccessUnavailable):
                admit(keyring, f"new {number}")


def test_addresses_have_their_own_allowance_and_a_network_of_ipv6_has_one(keyring):
    guess(keyring, 10)
    guess(keyring, 1, "192.0.2.2")
    guess(keyring, 5, "2001:db8::1")
    guess(keyring, 5, "2001:db8::2:0:0:1")
    with pytest.raises(TooManyGuesses):
        admit(keyring, "x", "2001:db8::ffff")
    guess(keyring, 1, "2001:db8:0:1::1")
    guess(keyring, 1, "no address at all")


def test_guesses_at_once_do_not_get_past_the_allowance(keyring):
    async def at_once():
        tried = (keyring.admit(f"guess {number}", ADDRESS) for number in range(100))
        return await asyncio.gather(*tried, return_exceptions=True)

    outcomes = [type(each) for each in asyncio.run(at_once())]
    assert outcomes.count(UnknownKey) == 10
    assert outcomes.count(TooManyGuesses) == 90


def test_memory_is_bounded(time):
    limiter = GuessLimiter(clock=time)
    for number in range(MAX_ADDRESSES + 500):
        limiter.begin(f"address {number}")
    assert len(limiter._allowances) == MAX_ADDRESSES
