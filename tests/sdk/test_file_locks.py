"""Processes that are forked while another thread has a file open and locked."""

from __future__ import annotations

import fcntl
import os
import textwrap
from pathlib import Path

import pytest

from nilometer.sdk.appending import locked
from nilometer.sdk.delivery.spool import Spool
from nilometer.sdk.file_locks import opened
from tests.sdk.test_processes import Folder
from tests.sdk.test_spool import metrics

IN_AN_APPEND = """
import threading
manager = make(sink="jsonl://" + os.environ["STORE"], flush_interval=0.001)
reached, go, fsync = threading.Event(), threading.Event(), os.fsync

def slow(file):
    reached.set()
    go.wait(60)
    fsync(file)

def open_here():
    for file in range(3, 64):
        if os.path.exists(f"/proc/self/fd/{file}"):
            yield os.readlink(f"/proc/self/fd/{file}")

os.fsync = slow
record(manager, 1)
assert reached.wait(90)
os.fsync = fsync
child = os.fork()
if not child:
    record(manager, 5, 1)
    sent = manager.flush(10)
    os._exit(0 if sent and os.environ["STORE"] not in open_here() else 1)
"""

ON_A_SPOOL = """
import threading
from nilometer.sdk.delivery import spool as spools

folder = Path(os.environ["SPOOL"])
spool = spools.Spool(folder, 10**6)
reached, go = threading.Event(), threading.Event()

def stop():
    reached.set()
    go.wait(60)

def all_adopted(count):
    mine, found = spools.Spool(folder, 10**6), 0
    until = time.monotonic() + 20
    while found < count and time.monotonic() < until:
        found += len(mine.adopt())
        time.sleep(0.01)
    print(found, flush=True)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_a_fork_in_the_middle_of_an_append_stops_neither_process(folder: Folder):
    code = """
    record(manager, 5, 6)
    go.set()
    assert manager.flush(10)
    assert os.waitpid(child, 0)[1] == 0
    """
    folder.done(IN_AN_APPEND + textwrap.dedent(code))
    assert folder.stored() == list(range(11))


def test_a_share_that_nobody_knows_of_locks_nothing(tmp_path: Path):
    """A child has one that was forked by another library, or while the file was opened."""
    with locked(tmp_path / "usage.jsonl") as file:
        share = os.dup(file)
    with opened(tmp_path / "usage.jsonl", os.O_RDWR) as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(share)
    spool = Spool(tmp_path / "spool", 10**6)
    segment = spool.write(metrics(2))
    assert spool._lock is not None
    share = os.dup(spool._lock)
    spool.close()
    [adopted] = Spool(tmp_path / "spool", 10**6).adopt()
    assert (adopted.count, segment.path.exists()) == (2, False)
    os.close(share)


def test_a_child_whose_parent_ends_in_the_middle_of_an_append_goes_on(folder: Folder):
    folder.done(IN_AN_APPEND + "os._exit(0)")  # as one does that becomes a daemon
    assert folder.stored() == list(range(6))


def test_a_child_whose_parent_ends_in_the_middle_of_adopting_adopts_the_rest(folder: Folder):
    folder.spool.mkdir()
    for number in (1, 2):
        (folder.spool / f"1-dead.0000000{number}.jsonl").write_text("{}\n")
    code = """
    rename = Path.rename

    def slow(path, to):
        if path.name.endswith("2.jsonl"):
            stop()
        return rename(path, to)

    Path.rename = slow
    threading.Thread(target=spool.adopt, daemon=True).start()
    assert reached.wait(90)
    Path.rename = rename
    if os.fork():
        os._exit(0)
    spool.abandon()
    all_adopted(2)
    """
    assert folder.done(ON_A_SPOOL + textwrap.dedent(code)) == "2\n"


def test_a_child_that_was_forked_while_a_spool_was_opened_has_no_share_in_it(folder: Folder):
    code = """
    from nilometer.domain.usage_metric import AIUsageMetric
    from datetime import UTC, datetime
    at = datetime(2026, 1, 1, tzinfo=UTC)
    metric = AIUsageMetric(service="acme", model="m", operation="x", timestamp=at)
    locked = spools._locked

    def slow(file):
        found = locked(file)
        stop()
        return found

    spools._locked = slow
    thread = threading.Thread(target=spool.write, args=([metric],))
    thread.start()
    assert reached.wait(90)
    spools._locked = locked
    if os.fork():
        go.set()
        thread.join()
        os._exit(0)
    spool.abandon()
    all_adopted(1)
    """
    assert folder.done(ON_A_SPOOL + textwrap.dedent(code)) == "1\n"


def test_what_a_parent_that_ended_had_on_disk_its_child_sends(folder: Folder):
    code = """
    manager = make()
    record(manager, 10)
    while manager.stats().spooled < 10:
        time.sleep(0.01)
    if os.fork():
        os._exit(0)
    del os.environ["DOWN"]
    until = time.monotonic() + 20
    while manager.stats().stored < 10 and time.monotonic() < until:
        manager.flush(1)
        time.sleep(0.01)
    """
    folder.done(code, down=True)
    assert folder.stored() == list(range(10))
