"""What happens to metrics when a process ends: by itself, by a signal or a kill; and in forks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.sdk.conftest import MakeManager
from tests.small_disk import on_a_small_disk

HEAD = """
import os, signal, sys, time
from pathlib import Path
from nilometer import ClientConfig, ClientManager, usage_context

class Sink:
    name, batch_size, wants_prices, local = "test://", 100, False, False
    def store(self, metrics):
        if os.environ.get("DOWN"):
            raise ConnectionError
        with open(os.environ["STORE"], "a") as file:
            for metric in metrics:
                file.write(metric.to_json() + "\\n")
        return []
    def close(self):
        pass

def make(**fields):
    # A store that is up is waited for, however slow the machine is; one that is down, in vain.
    named = dict(sink=Sink(), spool_dir=os.environ["SPOOL"], auto_tags=False, flush_interval=60,
                 exit_timeout=1 if os.environ.get("DOWN") else 30)
    return ClientManager(ClientConfig(**(named | fields)))

def record(manager, count, start=0):
    for number in range(start, start + count):
        manager.tracker.record(service="acme", model="m", operation="x", metadata={"n": number})
"""


class Folder:
    """A store that is a file, and a spool beside it."""

    def __init__(self, path: Path) -> None:
        self.store = path / "store.jsonl"
        self.spool = path / "spool"

    def run(self, code: str, *, down: bool = False, prefix: list[str] | None = None):
        environment = os.environ | {"STORE": str(self.store), "SPOOL": str(self.spool)}
        if down:
            environment["DOWN"] = "1"
        return subprocess.Popen(
            [*(prefix or []), sys.executable, "-W", "error", "-c", HEAD + textwrap.dedent(code)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def done(self, code: str, *, down: bool = False, returns: int = 0) -> str:
        process = self.run(code, down=down)
        out, errors = process.communicate(timeout=60)
        assert process.returncode == returns, errors
        return out

    def stored(self) -> list[int]:
        if not self.store.exists():
            return []
        lines = self.store.read_text().splitlines()
        return sorted(json.loads(line)["metadata"]["n"] for line in lines)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_a_process_that_just_ends_has_sent_everything(folder: Folder):
    folder.done("record(make(), 25)")
    assert folder.stored() == list(range(25))


def test_a_process_that_fails_has_sent_everything(folder: Folder):
    folder.done("record(make(), 25); raise SystemExit(3)", returns=3)
    assert folder.stored() == list(range(25))


def test_what_could_not_be_sent_at_the_end_the_next_process_sends(folder: Folder):
    folder.done("record(make(), 25)", down=True)
    assert folder.stored() == []
    folder.done("manager = make(); record(manager, 5, 25); assert manager.flush(10)")
    assert folder.stored() == list(range(30))
    assert list(folder.spool.glob("*/*.jsonl")) == []


def test_sigterm_sends_everything_and_still_ends_the_process(folder: Folder):
    # `make coverage` has a handler of its own in each process, which would decide.
    code = """
        import signal
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        record(make(), 25); print('ready', flush=True); time.sleep(60)
    """
    process = folder.run(code)
    assert process.stdout.readline() == "ready\n"
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGTERM
    assert folder.stored() == list(range(25))


def test_an_earlier_handler_of_sigterm_is_called_and_decides(folder: Folder):
    process = folder.run(
        """
        def handler(number, frame):
            print("handled", flush=True)
            record(manager, 5, 25)
            sys.exit(7)
        signal.signal(signal.SIGTERM, handler)
        manager = make()
        record(manager, 25)
        print("ready", flush=True)
        time.sleep(60)
        """
    )
    assert process.stdout.readline() == "ready\n"
    process.terminate()
    out, _ = process.communicate(timeout=30)
    assert (out, process.returncode) == ("handled\n", 7)
    assert folder.stored() == list(range(30))


SLOW = """
def slow(manager):
    writer = manager._delivery._writer
    real = writer._assembler.metric
    class Slow:
        def metric(self, seen):
            time.sleep(0.02)
            return real(seen)
    writer._assembler = Slow()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_the_middle_of_a_flush_loses_nothing(folder: Folder, number: int):
    process = folder.run(
        SLOW
        + textwrap.dedent(
            """
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            manager = make(exit_timeout=1)  # not enough for all of it
            slow(manager)
            record(manager, 60)
            try:
                print("ready", flush=True)
                manager.flush(30)
            except KeyboardInterrupt:
                print("interrupted", flush=True)
            """
        )
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    out, errors = process.communicate(timeout=60)
    interrupted = number == signal.SIGINT
    assert (out, process.returncode) == (("interrupted\n", 0) if interrupted else ("", -number)), (
        errors
    )
    folder.done("assert make().flush(10)")
    assert folder.stored() == list(range(60))


def test_a_signal_that_comes_while_a_call_is_taken_in_waits_for_that(folder: Folder):
    folder.done(
        """
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        manager = make()
        record(manager, 5)
        with manager._delivery._ledger.lock:  # as `record` has it
            record(manager, 5, 5)
            time.sleep(0.5)  # the writer waits for it, with locks of its own
            os.kill(os.getpid(), signal.SIGTERM)
            record(manager, 5, 10)
        time.sleep(60)
        """,
        returns=-signal.SIGTERM,
    )
    assert folder.stored() == list(range(15))


def test_a_child_that_is_forked_while_prices_load_prices_its_calls(folder: Folder):
    folder.done(
        """
        import threading, warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
        from nilometer.pricing import book
        loading, bundled = threading.Event(), book.bundled

        def slow():
            loading.set()
            time.sleep(0.5)
            return bundled()

        def priced(number):
            manager.tracker.record(service="openai", model="gpt-4o-mini", operation="completion",
                                   input_tokens=1000, output_tokens=1, metadata={"n": number})

        book.bundled = slow
        manager = make(sink="jsonl://" + os.environ["STORE"])
        priced(0)
        assert loading.wait(90)
        child = os.fork()
        if not child:
            priced(1)
            os._exit(0 if manager.flush(20) else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert manager.flush(20)
        """
    )
    assert folder.stored() == [0, 1]


def test_an_ignored_sigterm_stays_ignored(folder: Folder):
    folder.done(
        """
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        record(make(), 5)
        signal.raise_signal(signal.SIGTERM)
        """
    )
    assert folder.stored() == list(range(5))


def test_what_a_killed_process_had_on_disk_the_next_one_sends(folder: Folder):
    process = folder.run(
        """
        manager = make()
        record(manager, 300)
        while manager.stats().spooled < 300:
            time.sleep(0.01)
        print("spooled", flush=True)
        time.sleep(60)
        """,
        down=True,
    )
    assert process.stdout.readline() == "spooled\n"
    process.kill()
    process.communicate(timeout=30)
    folder.done("assert make().flush(10)")
    assert folder.stored() == list(range(300))


def test_processes_that_share_a_folder_send_everything_once(folder: Folder):
    for start in range(0, 30, 10):
        folder.done(f"record(make(), 10, {start})", down=True)
    others = [folder.run(f"make().flush(20); record(make(), 5, {30 + 5 * n})") for n in range(3)]
    for process in others:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    assert folder.stored() == list(range(45))


def test_a_forked_child_counts_its_own_and_the_parent_its_own(folder: Folder):
    folder.done(
        """
        manager = make()
        record(manager, 10)
        child = os.fork()
        if not child:
            assert manager.stats().submitted == 0
            record(manager, 5, 10)
            assert manager.flush(10)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert manager.stats().submitted == 10
        """
    )
    assert folder.stored() == list(range(15))


def test_children_of_multiprocessing_send_theirs_at_their_end(folder: Folder):
    folder.done(
        """
        import multiprocessing
        manager = make()
        record(manager, 10)
        fork = multiprocessing.get_context("fork")
        starts = (10, 15, 20)
        children = [fork.Process(target=record, args=(manager, 5, start)) for start in starts]
        for child in children: child.start()
        for child in children: child.join()
        assert [child.exitcode for child in children] == [0, 0, 0]
        """
    )
    assert folder.stored() == list(range(25))


def test_the_parents_spool_is_not_the_childs_to_send(folder: Folder):
    folder.done(
        """
        manager = make()
        record(manager, 10)
        while manager.stats().spooled < 10:
            time.sleep(0.01)
        child = os.fork()
        if not child:
            del os.environ["DOWN"]
            assert manager.flush(10)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert manager.stats().spooled == 10
        """,
        down=True,
    )
    assert folder.stored() == []


def test_a_full_disk_loses_nothing_that_the_store_takes(folder: Folder, tmp_path: Path):
    small = tmp_path / "small"
    small.mkdir()
    code = textwrap.dedent(
        f"""
        os.environ["DOWN"] = "1"
        (Path({str(small)!r}) / "filler").write_bytes(b"x" * 400_000)
        manager = make(spool_dir={str(small)!r}, queue_size=5000)
        record(manager, 1500)
        while manager.stats().waiting == 1500 or len(manager._delivery._queue):
            time.sleep(0.01)
        manager.flush(0.1)
        stats = manager.stats()
        assert stats.spooled > 0 and stats.waiting > 0 and not stats.dropped, stats
        del os.environ["DOWN"]
        assert manager.flush(20), manager.stats()
        """
    )
    command = [sys.executable, "-W", "error", "-c", HEAD + code]
    done = subprocess.run(
        on_a_small_disk(small, "512k", command),
        check=False,
        env=os.environ | {"STORE": str(folder.store), "SPOOL": "unused"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert folder.stored() == list(range(1500))


def test_a_manager_made_in_a_thread_handles_no_signal(make_manager: MakeManager):
    before = signal.getsignal(signal.SIGTERM)
    make_manager(handle_sigterm=False)
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_library_loads_little_and_prices_last(folder: Folder):
    heavy = ("httpx", "genai_prices", "pydantic", "boto3", "openai", "anthropic", "fastapi", "rich")
    folder.done(
        f"""
        manager = make()
        record(manager, 1)
        assert manager.flush(10)
        loaded = [name for name in {heavy!r} if name in sys.modules]
        assert loaded == [], loaded
        """
    )


def test_jsonl_rotates_under_many_writers_and_loses_no_line(folder: Folder, tmp_path: Path):
    path = tmp_path / "usage.jsonl"
    code = f"""
    manager = make(sink="jsonl://{path}?rotate=20000", flush_interval=0.001)
    for start in range(0, 200, 10):
        record(manager, 10, {{0}} + start)
        assert manager.flush(10)
    """
    processes = [folder.run(textwrap.dedent(code).format(n)) for n in (0, 200, 400)]
    for process in processes:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    files = list(tmp_path.glob("usage.jsonl*"))
    lines = [line for file in files for line in file.read_text().splitlines()]
    assert sorted(json.loads(line)["metadata"]["n"] for line in lines) == list(range(600))
    assert len(files) > 3
    assert max(file.stat().st_size for file in files) < 40_000
