"""Opening a log: one at a time, whole or not at all."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest

from nilometer.errors import ConfigurationError
from nilometer.log.sqlite import LogCorrupt
from tests.log.logs import drain, envelope, numbers, open_log, poll

ROOT = Path(__file__).parents[2]


def fill(directory: Path, records: int = 12) -> list[Path]:
    """A closed log of several segments that one group has read one record of; its segments."""
    with contextlib.closing(open_log(directory, segment_bytes=60_000)) as log:
        for number in range(records):
            log.append_blocking(envelope(number, size=20_000))
        consumer = log.consumer("a")
        consumer.commit(poll(consumer, max_records=1))
    return sorted(directory.glob("[0-9]*.sqlite"))


def test_a_second_log_on_the_directory_is_refused_in_the_same_process(tmp_path: Path) -> None:
    with (
        contextlib.closing(open_log(tmp_path)),
        pytest.raises(ConfigurationError, match="already open in process"),
    ):
        open_log(tmp_path)
    open_log(tmp_path).close()


def test_a_second_log_on_the_directory_is_refused_in_another_process(tmp_path: Path) -> None:
    with contextlib.closing(open_log(tmp_path)):
        other = subprocess.run(
            [sys.executable, "-m", "tests.log.appending", str(tmp_path), "0"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert other.returncode == 1
    assert f"{tmp_path} is already open in process" in other.stderr


def test_after_a_clean_stop_only_whole_segments_are_left(tmp_path: Path) -> None:
    paths = fill(tmp_path)
    expected = {path.name for path in paths} | {"boot", "clean", "groups.sqlite", "lock"}
    assert {path.name for path in tmp_path.iterdir()} == expected


@pytest.mark.parametrize("which", [0, 1, -1])
def test_a_torn_segment_is_refused_by_name(tmp_path: Path, which: int) -> None:
    path = fill(tmp_path)[which]
    path.write_bytes(path.read_bytes()[:-9000])
    with pytest.raises(LogCorrupt, match=path.name):
        open_log(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not a database, but long enough to be read as one"])
def test_a_file_that_is_no_segment_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = fill(tmp_path)[1]
    path.write_bytes(content)
    with pytest.raises(LogCorrupt, match=path.name):
        open_log(tmp_path)


def test_after_an_unclean_stop_the_last_segment_is_read_through(tmp_path: Path) -> None:
    path = fill(tmp_path, records=2)[-1]
    data = bytearray(path.read_bytes())
    data[8192 : 8192 + 64] = b"\xff" * 64  # the root page of the records
    path.write_bytes(data)
    (tmp_path / "clean").unlink()
    with pytest.raises(LogCorrupt, match=path.name):
        open_log(tmp_path)


@pytest.mark.parametrize("which", [0, 1, -1])
def test_a_missing_segment_with_unread_records_is_refused(tmp_path: Path, which: int) -> None:
    fill(tmp_path)[which].unlink()
    with pytest.raises(LogCorrupt, match="lacks the records from offset"):
        open_log(tmp_path)


def test_a_last_segment_lost_in_a_crash_is_refused_if_a_group_had_read_it(tmp_path: Path) -> None:
    paths = fill(tmp_path)
    with contextlib.closing(open_log(tmp_path)) as log:
        drain(log.consumer("a"))
    (tmp_path / "clean").unlink()
    paths[-1].unlink()
    with pytest.raises(LogCorrupt, match="lacks the records from offset"):
        open_log(tmp_path)


def test_a_segment_of_a_newer_format_is_refused_by_name(tmp_path: Path) -> None:
    path = fill(tmp_path)[0]
    data = bytearray(path.read_bytes())
    data[63] = 2  # user_version, big-endian at byte 60 of the header
    path.write_bytes(data)
    with pytest.raises(ConfigurationError, match=rf"{path.name} has format 2"):
        open_log(tmp_path)


def test_damaged_group_offsets_are_refused_by_name(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "groups.sqlite").write_bytes(b"x" * 5000)
    with pytest.raises(LogCorrupt, match=r"groups\.sqlite are damaged"):
        open_log(tmp_path)


def test_without_group_offsets_every_group_reads_from_the_oldest_record(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "groups.sqlite").unlink()
    with contextlib.closing(open_log(tmp_path)) as log:
        assert numbers(drain(log.consumer("a"))) == list(range(12))


def test_a_damaged_marker_is_refused_by_name(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "clean").write_text("soon")
    with pytest.raises(LogCorrupt, match="clean"):
        open_log(tmp_path)


def test_what_a_crash_left_half_made_is_swept(tmp_path: Path) -> None:
    fill(tmp_path)
    for name in ("00000000000000000012.sqlite.new", "00000000000000000099.sqlite-wal"):
        (tmp_path / name).write_bytes(b"half")
    with contextlib.closing(open_log(tmp_path)) as log:
        assert len(drain(log.consumer("a"))) == 11
    assert not list(tmp_path.glob("*.new")) + list(tmp_path.glob("*-wal"))


def test_a_refused_log_is_not_changed_and_can_be_opened_once_mended(tmp_path: Path) -> None:
    path = fill(tmp_path)[1]
    whole = path.read_bytes()
    path.unlink()
    with pytest.raises(LogCorrupt):
        open_log(tmp_path)
    path.write_bytes(whole)
    with contextlib.closing(open_log(tmp_path)) as log:
        assert numbers(drain(log.consumer("a"))) == list(range(1, 12))


def test_a_record_that_cannot_be_read_stops_its_reader_behind_the_good_ones(tmp_path: Path) -> None:
    path = fill(tmp_path, records=12)[1]
    with contextlib.closing(open_log(tmp_path)) as log:
        path.write_bytes(path.read_bytes()[:8192].ljust(path.stat().st_size, b"\xff"))
        consumer = log.consumer("a")
        good = poll(consumer)
        assert numbers(good) == list(range(1, int(path.stem)))
        for _ in range(2):
            with pytest.raises(LogCorrupt, match=path.name):
                poll(consumer)
