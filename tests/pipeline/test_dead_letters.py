"""Dead letters are kept once, shown to their project only, and decided once."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import UTC

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nilometer.access.accounts import Accounts
from nilometer.database.engine import Database, DatabaseUnavailable
from nilometer.errors import InvalidInput, NotFound
from nilometer.log.envelope import Envelope, decode
from nilometer.log.port import LogUnavailable
from nilometer.log.sqlite import SqliteLog
from nilometer.pipeline.dead_letters import (
    UNOWNED,
    DeadLetters,
    NewDeadLetter,
    State,
    _decode_cursor,
)
from tests.database.both import KINDS, opened
from tests.database.migrated import migrated
from tests.database.reaching import away, url_of

PAYLOAD = b'{"secret prompt": "\x00\xff"}'


@pytest.fixture(params=KINDS)
def database(request, tmp_path):
    with opened(request, tmp_path) as database:
        yield database


@pytest.fixture
def letters(database):
    return DeadLetters(database)


@pytest.fixture
def log(tmp_path):
    log = SqliteLog(
        tmp_path / "log",
        segment_bytes=1 << 20,
        max_bytes=1 << 30,
        keep_seconds=3600,
        disk_reserve=0,
        rewind_seconds=0,
    )
    yield log
    log.close()


def envelope(project_id=1, uuid="u1"):
    return Envelope(
        project_id=project_id,
        uuid=uuid,
        door="ai",
        door_version=1,
        accepted_at=1_700_000_000_000_000,
        config_version=1,
        payload=PAYLOAD,
    )


def letter(project_id=1, uuid="u1", **changes):
    record = envelope(project_id, uuid)
    new = NewDeadLetter(
        project_id=project_id,
        uuid=uuid,
        consumer="pipeline",
        reason="bad_event",
        detail="its properties cannot be mapped",
        headers=record.headers(),
        payload=record.payload,
        attempts=1,
        partition=0,
        offset=7,
    )
    return replace(new, **changes)


def only(letters, project_id=1):
    (found,) = letters.list(project_id).items
    return found


def records(log):
    consumer = log.consumer("test")
    try:
        found = consumer.poll(max_records=100, max_bytes=1 << 20, timeout=0)
        return [decode(record.headers, record.payload) for record in found]
    finally:
        consumer.close()


def test_a_letter_is_kept_whole(letters, database):
    letters.add([letter()])
    other_process = Database(url_of(database))
    found = DeadLetters(other_process).get(1, only(letters).id)
    other_process.close()
    assert (found.headers, found.payload) == (letter().headers, PAYLOAD)
    assert (found.uuid, found.consumer, found.reason) == ("u1", "pipeline", "bad_event")
    assert (found.attempts, found.partition, found.offset) == (1, 0, 7)
    assert (found.state, found.actor, found.note) == (State.OPEN, None, None)
    assert found.payload_size == len(PAYLOAD)
    assert found.created_at.tzinfo is UTC


def test_a_redelivered_record_is_the_same_letter(letters):
    letters.add([letter(), letter(attempts=2)])
    first = only(letters)
    letters.add([letter(attempts=3, reason="record_broken", detail="another reason")])
    again = only(letters)
    assert (again.id, again.created_at) == (first.id, first.created_at)
    assert (again.attempts, again.reason, again.detail) == (6, "record_broken", "another reason")
    assert again.updated_at > first.updated_at


@pytest.mark.parametrize(
    "changes",
    [{"project_id": 2}, {"uuid": "u2"}, {"consumer": "c2"}, {"offset": 8}, {"partition": 1}],
)
def test_any_other_record_is_its_own_letter(letters, changes):
    letters.add([letter(), letter(**changes)])
    assert len(letters.list(1).items) + len(letters.list(2).items) == 2


def test_concurrent_redelivery_makes_one_letter(letters):
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: letters.add([letter()]), range(24)))
    assert only(letters).attempts == 24


def test_a_redelivery_leaves_a_decided_letter_as_it_was_decided(letters, log):
    """The rewind after an unclean stop hands out again what somebody has dealt with."""
    letters.add([letter(uuid="a"), letter(uuid="b")])
    one, other = letters.list(1).items
    decided = {
        letters.discard(1, one.id, actor="ada", reason="noise"),
        letters.replay(1, other.id, actor="ada", log=log),
    }
    letters.add([letter(uuid="a", reason="newer"), letter(uuid="b", reason="newer")])
    assert {letters.get(1, item.id) for item in letters.list(1).items} == decided


def test_a_replayed_record_that_fails_again_is_a_new_letter(letters, log):
    letters.add([letter()])
    first = only(letters)
    letters.replay(1, first.id, actor="ada", log=log)
    consumer = log.consumer("test")
    (replayed,) = consumer.poll(max_records=1, max_bytes=1 << 20, timeout=0)
    consumer.close()
    letters.add([letter(offset=replayed.position.offset)])
    newer = letters.list(1, state=State.OPEN).items
    assert [item.uuid for item in newer] == ["u1"]
    assert newer[0].id != first.id
    assert letters.get(1, first.id).state is State.REPLAYED


def test_either_all_letters_are_kept_or_none(letters):
    with pytest.raises(Exception, match=r"(?i)not.null"):
        letters.add([letter(), letter(uuid="u2", consumer=None)])
    assert letters.list(1).items == []


@given(
    text=st.text(st.characters(), max_size=20) | st.just("\ud800\0x"),
    project_id=st.integers() | st.sampled_from([-1, 2**31, 2**64]),
)
def test_nothing_in_a_record_can_keep_its_letter_out(tmp_path_factory, text, project_id):
    path = tmp_path_factory.mktemp("any") / "nilometer.db"
    with closing(migrated(path)) as database:
        letters = DeadLetters(database)
        letters.add([replace(letter(), project_id=project_id, uuid=text, detail=text * 200)])
        kept_in = project_id if 0 <= project_id < 2**31 else 0
        found = only(letters, kept_in)
    assert len(found.detail) <= 2000
    if text.isprintable():
        assert found.uuid == text


def test_no_letters_need_no_database(letters, database):
    with away(database):
        letters.add([])
        with pytest.raises(DatabaseUnavailable):
            letters.add([letter()])


def test_a_letter_is_of_one_project_only(letters, log):
    letters.add([letter()])
    letter_id = only(letters).id
    assert letters.list(2).items == letters.list(0).items == []
    said = set()
    for ask in (
        lambda: letters.get(2, letter_id),
        lambda: letters.get(1, "00000000-0000-4000-8000-000000000000"),
        lambda: letters.get(1, "' or 1=1 --"),
        lambda: letters.replay(2, letter_id, actor="eve", log=log),
        lambda: letters.discard(2, letter_id, actor="eve", reason="r"),
    ):
        with pytest.raises(NotFound) as caught:
            ask()
        said.add((caught.value.code, caught.value.detail))
    assert len(said) == 1
    assert only(letters).state is State.OPEN
    assert records(log) == []


def test_the_operator_sees_and_decides_what_belongs_to_no_project(letters, database):
    accounts = Accounts(database)
    accounts.bootstrap(None)
    owned = accounts.create_project("tested").project_id
    nobodys = (0, owned + 1)
    letters.add([letter(owned, "theirs")])
    letters.add([letter(project_id, "", headers=b"\xff") for project_id in nobodys])
    found = letters.list(UNOWNED).items
    assert {item.project_id for item in found} == set(nobodys)
    assert letters.get(UNOWNED, found[0].id).headers == b"\xff"
    with pytest.raises(NotFound):
        letters.get(UNOWNED, only(letters, owned).id)
    for item in found:
        letters.discard(UNOWNED, item.id, actor="ada", reason="unreadable")
    assert letters.open_counts() == {"bad_event": 1}


def test_lists_filter_by_state_and_reason(letters):
    letters.add([letter(uuid="a"), letter(uuid="b", reason="too_big"), letter(uuid="c")])
    discarded = next(item for item in letters.list(1).items if item.uuid == "c")
    letters.discard(1, discarded.id, actor="ada", reason="noise")

    def uuids(**filters):
        return {item.uuid for item in letters.list(1, **filters).items}

    assert uuids(state=State.OPEN) == {"a", "b"}
    assert uuids(state=State.DISCARDED) == {"c"}
    assert uuids(reason="bad_event") == {"a", "c"}
    assert uuids(state=State.OPEN, reason="bad_event") == {"a"}
    assert uuids(reason="' or 1=1 --") == set()


def pages(letters, limit):
    cursor, found = None, []
    while True:
        page = letters.list(1, limit=limit, cursor=cursor)
        assert len(page.items) <= limit
        found.append(page.items)
        cursor = page.next
        if cursor is None:
            return found


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 500])
def test_pages_show_every_letter_once_newest_first(letters, limit):
    for batch in ("ab", "c", "def", "g"):
        letters.add([letter(uuid=uuid) for uuid in batch])
    found = pages(letters, limit)
    items = [item for page in found for item in page]
    assert sorted(item.uuid for item in items) == list("abcdefg")
    keys = [(item.created_at, item.id) for item in items]
    assert keys == sorted(keys, reverse=True)
    assert all(found), "no page is empty"


def test_a_cursor_holds_while_new_letters_arrive(letters):
    letters.add([letter(uuid=uuid) for uuid in "abcd"])
    first = letters.list(1, limit=2)
    letters.add([letter(uuid=uuid) for uuid in "wxyz"])
    rest = letters.list(1, limit=10, cursor=first.next)
    assert sorted(item.uuid for item in first.items + rest.items) == list("abcd")


@given(st.text())
def test_a_made_up_cursor_is_refused_or_harmless(text):
    try:
        _decode_cursor(text)
    except InvalidInput as refused:
        assert refused.attr == "cursor"  # noqa: PT017  (either outcome is right)


@pytest.mark.parametrize(
    "cursor", ["", "x", "é", "MTIzNDU", "OTk5OTk5OTk5OTk5OTk5OTk5OTk5OS54", "===="]
)
def test_a_broken_cursor_is_refused(letters, cursor):
    with pytest.raises(InvalidInput, match="cursor"):
        letters.list(1, cursor=cursor)


@pytest.mark.parametrize("limit", [0, -1, 501])
def test_a_page_is_bounded(letters, limit):
    with pytest.raises(InvalidInput, match="between 1 and 500"):
        letters.list(1, limit=limit)


def test_a_replay_appends_the_same_record_and_says_who(letters, log):
    letters.add([letter()])
    done = letters.replay(1, only(letters).id, actor="ada", log=log)
    assert (done.state, done.actor) == (State.REPLAYED, "ada")
    assert records(log) == [envelope()]
    assert letters.get(1, done.id) == done


def test_only_an_open_letter_is_decided(letters, log):
    letters.add([letter(uuid="a"), letter(uuid="b")])
    one, other = letters.list(1).items
    letters.replay(1, one.id, actor="ada", log=log)
    letters.discard(1, other.id, actor="ada", reason="noise")
    for decided in (one, other):
        with pytest.raises(InvalidInput) as caught:
            letters.replay(1, decided.id, actor="eve", log=log)
        assert caught.value.code == "not_open"
        with pytest.raises(InvalidInput):
            letters.discard(1, decided.id, actor="eve", reason="other")
    assert {item.actor for item in letters.list(1).items} == {"ada"}
    assert len(records(log)) == 1


def test_a_log_that_refuses_leaves_the_letter_open(letters, log):
    letters.add([letter()])
    log.close()
    with pytest.raises(LogUnavailable):
        letters.replay(1, only(letters).id, actor="ada", log=log)
    assert only(letters).state is State.OPEN


def test_a_crash_between_append_and_mark_is_mended_by_replaying_again(letters, log, database):
    """The database goes away in between: the record is in the log, the letter still open."""

    class LogThenOutage:
        def append_blocking(self, record):
            position = log.append_blocking(record)
            outage.enter_context(away(database))
            return position

    letters.add([letter()])
    letter_id = only(letters).id
    with ExitStack() as outage, pytest.raises(DatabaseUnavailable):
        letters.replay(1, letter_id, actor="ada", log=LogThenOutage())
    assert only(letters).state is State.OPEN
    assert letters.replay(1, letter_id, actor="ada", log=log).state is State.REPLAYED
    assert {record.uuid for record in records(log)} == {"u1"}, "one identity: stored once"


def test_a_discard_that_comes_too_late_does_not_hide_a_replay(letters, log):
    class LogWhileDiscarding:
        def append_blocking(self, record):
            letters.discard(1, letter_id, actor="eve", reason="noise")
            return log.append_blocking(record)

    letters.add([letter()])
    letter_id = only(letters).id
    done = letters.replay(1, letter_id, actor="ada", log=LogWhileDiscarding())
    assert (done.state, done.actor, done.note) == (State.REPLAYED, "ada", None)


@pytest.mark.parametrize(
    "changes",
    [
        {"headers": b"\xff"},
        {"headers": b"{}"},
        {"headers": b'{"v":99}'},
        {"headers": envelope(project_id=2).headers()},
    ],
)
def test_a_record_that_no_reader_could_use_is_not_replayed(letters, log, changes):
    letters.add([letter(**changes)])
    with pytest.raises(InvalidInput, match="only be discarded") as caught:
        letters.replay(1, only(letters).id, actor="ada", log=log)
    assert caught.value.code == "not_replayable"
    assert records(log) == []
    assert letters.discard(1, only(letters).id, actor="ada", reason="broken").note == "broken"


@pytest.mark.parametrize("reason", ["", " \n", "x" * 1001])
def test_a_discard_needs_a_reason(letters, reason):
    letters.add([letter()])
    with pytest.raises(InvalidInput) as caught:
        letters.discard(1, only(letters).id, actor="ada", reason=reason)
    assert caught.value.attr == "reason"
    assert only(letters).state is State.OPEN


def test_open_letters_are_counted_by_reason(letters):
    letters.add([letter(uuid="a"), letter(uuid="b"), letter(2, "c", reason="too_big")])
    assert letters.open_counts() == {"bad_event": 2, "too_big": 1}
    letters.discard(1, letters.list(1).items[0].id, actor="ada", reason="noise")
    assert letters.open_counts() == {"bad_event": 1, "too_big": 1}


def test_the_sweeper_learns_whose_blobs_are_still_wanted(letters, log):
    letters.add([letter(uuid=f"u{number}") for number in range(1200)])
    letters.add([letter(2, "theirs")])
    discarded, replayed = letters.list(1, limit=2).items
    letters.discard(1, discarded.id, actor="ada", reason="noise")
    letters.replay(1, replayed.id, actor="ada", log=log)
    asked = [f"u{number}" for number in range(1300)] + ["theirs"]
    expected = {f"u{number}" for number in range(1200)} - {discarded.uuid}
    assert letters.live_uuids(1, asked) == expected
    assert letters.live_uuids(1, []) == set()


def test_no_content_is_in_a_repr(letters):
    letters.add([letter()])
    assert "secret" not in repr(letter())
    assert "secret" not in repr(letters.get(1, only(letters).id))


@given(records=st.lists(st.tuples(st.binary(max_size=99), st.binary(max_size=99)), max_size=5))
def test_any_bytes_come_back_exactly(tmp_path_factory, records):
    path = tmp_path_factory.mktemp("bytes") / "nilometer.db"
    with closing(migrated(path)) as database:
        letters = DeadLetters(database)
        letters.add(
            [
                letter(uuid=str(number), headers=headers, payload=payload)
                for number, (headers, payload) in enumerate(records)
            ]
        )
        kept = {item.uuid: letters.get(1, item.id) for item in letters.list(1).items}
    found = [(kept[str(n)].headers, kept[str(n)].payload) for n in range(len(records))]
    assert found == records
