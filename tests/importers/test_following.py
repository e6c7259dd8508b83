"""A file that grows is read line by line, over rotation and truncation."""

import gzip
from collections.abc import Callable

import pytest

from nilometer.errors import InvalidInput
from nilometer.importers import parsing, reading
from nilometer.importers.chunk import Options, Position
from nilometer.importers.following import follow
from nilometer.importers.working_sessions import IDLE_GAP, working_sessions


def line(number):
    return b'{"timestamp":1,"usage":{"total_tokens":3},"call_id":"c%d"}\n' % number


def followed(path, steps: list[Callable[[], object]], start=None):
    """The ids read, when each step is done as soon as all before it has been read."""
    waiting = iter(steps)

    def wait():
        step = next(waiting, None)
        if step is not None:
            step()
        return step is not None

    ids = []
    source = reading.sources([str(path)])[0]
    for chunk in follow(source, wait, start):
        ids += [call.call_id for call in parsing.parse_chunk(chunk, Options()).calls]
    return ids


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "x.jsonl"
    file.write_bytes(line(0))
    return file


def append(path, data):
    def step():
        with path.open("ab") as file:
            file.write(data)

    return step


def test_lines_are_read_as_they_come_and_only_when_they_are_whole(path):
    halves = [append(path, line(1)[:20]), append(path, line(1)[20:]), append(path, line(2))]
    assert followed(path, halves) == ["c0", "c1", "c2"]


def test_reading_begins_where_it_is_told_to(path):
    assert followed(path, [append(path, line(1))], Position(len(line(0)), 1)) == ["c1"]


def test_a_rotated_file_is_read_to_its_end_and_then_the_new_one(path):
    def rotate():
        append(path, line(1) + line(2).rstrip())()
        path.rename(path.with_suffix(".1"))
        path.write_bytes(line(3))

    assert followed(path, [rotate, append(path, line(4))]) == ["c0", "c1", "c2", "c3", "c4"]


def test_while_nothing_has_the_name_the_old_file_is_read(path):
    old = path.with_suffix(".1")
    steps = [lambda: path.rename(old), append(old, line(1)), lambda: path.write_bytes(line(2))]
    assert followed(path, steps) == ["c0", "c1", "c2"]


def test_a_truncated_file_is_read_from_its_start(path):
    shorter = b'{"timestamp":1,"usage":{},"call_id":"s"}\n'
    steps = [lambda: path.write_bytes(shorter), append(path, line(5))]
    assert followed(path, steps) == ["c0", "s", "c5"]


def test_a_file_that_was_written_anew_and_is_longer_is_read_from_its_start(path):
    assert followed(path, [lambda: path.write_bytes(line(8) + line(9))]) == ["c0", "c8", "c9"]


def test_what_has_no_lines_cannot_be_followed(tmp_path, path):
    (tmp_path / "x.gz").write_bytes(gzip.compress(line(0)))
    (tmp_path / "list.json").write_bytes(b"[" + line(0) + b"]")
    for name in ("x.gz", "list.json"):
        with pytest.raises(InvalidInput, match="no lines"):
            followed(tmp_path / name, [])
    with pytest.raises(InvalidInput, match="can be followed"):
        followed("-", [])


def test_a_thread_is_worked_on_in_stretches():
    at = [0, IDLE_GAP, 2 * IDLE_GAP, 3 * IDLE_GAP + 1]
    found = list(working_sessions([*(("a", each) for each in at), ("b", 5)]))
    assert [(each.id, each.started_at, each.ended_at, each.calls) for each in found] == [
        ("a#1", 0, 2 * IDLE_GAP, 3),
        ("a#2", at[3], at[3], 1),
        ("b#1", 5, 5, 1),
    ]
    assert not list(working_sessions([]))
