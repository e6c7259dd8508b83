"""Forked processes of `nilometer` are like new ones."""

import gc
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from tests.forking import fork, run
from tests.running import Server, wait_until

SETTINGS = {"NILOMETER_PORT": "8123", "NILOMETER_LOG_LEVEL": "warning", "TZ": "Asia/Tokyo"}


def outcome(process):
    with process.stdout:
        return process.stdout.read(), process.wait(60)


def test_it_says_what_a_new_one_says_with_its_arguments_and_environment(tmp_path, monkeypatch):
    environment = {"PATH": os.environ["PATH"], **SETTINGS}
    monkeypatch.chdir(tmp_path)
    new = subprocess.run(
        [sys.executable, "-m", "nilometer", "config", "--json"],
        check=True,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    said, code = outcome(fork(["config", "--json"], environment))
    assert (said, code) == (new.stdout, 0)
    assert "8123" in said


def test_its_errors_are_in_its_output_and_its_exit_code_is_its_own():
    said, code = outcome(fork(["no-such-command"], {}))
    assert code == 2
    assert "no-such-command" in said


def test_one_that_is_waited_for_has_its_output_and_its_errors_apart():
    done = run(["no-such-command"], {}, 60)
    assert (done.returncode, done.stdout) == (2, "")
    assert "no-such-command" in done.stderr
    done = run(["--version"], {}, 60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_one_that_takes_too_long_is_killed(tmp_path):
    with pytest.raises(subprocess.TimeoutExpired):
        run(["serve", "--port", "0", "--data-dir", str(tmp_path)], {}, 0.1)


def test_it_runs_in_its_own_session_and_ends_by_the_signal_that_it_is_sent(tmp_path):
    process = fork(["serve", "--port", "0", "--data-dir", str(tmp_path)], {})
    assert process.poll() is None
    assert os.getsid(process.pid) == process.pid != os.getsid(0)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0)
    process.kill()
    assert outcome(process)[1] == -signal.SIGKILL
    assert process.poll() == process.returncode == -signal.SIGKILL
    process.send_signal(signal.SIGTERM)  # to nobody


def test_two_share_nothing_that_one_of_them_must_not_have(tmp_path):
    first, second = (
        fork(["serve", "--port", "0", "--data-dir", str(tmp_path / name)], {})
        for name in ("one", "two")
    )
    first.kill()
    assert outcome(first)[1] == -signal.SIGKILL  # its output ended: nobody else holds it
    assert second.poll() is None
    second.kill()
    assert outcome(second)[1] == -signal.SIGKILL


def test_it_is_asked_for_all_that_it_wrote_like_one_of_subprocess(tmp_path):
    with fork(["no-such-command"], {}) as process:
        said, nothing = process.communicate(timeout=60)
    assert "no-such-command" in said
    assert (nothing, process.returncode) == (None, 2)
    assert process.communicate() == (said, None)
    with fork(["serve", "--port", "0", "--data-dir", str(tmp_path)], {}) as process:
        with pytest.raises(subprocess.TimeoutExpired):
            process.communicate(timeout=0.01)
        process.kill()
        process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL


@pytest.fixture
def unraisable(monkeypatch):
    """What could not be raised: of a file that was left open, for one."""
    found = []
    monkeypatch.setattr(sys, "unraisablehook", lambda told: found.append(str(told.exc_value)))
    return found


def ended(pid):
    return not Path(f"/proc/{pid}").exists()


def test_one_that_nobody_holds_any_more_leaves_no_process_and_no_open_file(tmp_path, unraisable):
    process = fork(["serve", "--port", "0", "--data-dir", str(tmp_path)], {})
    pid, output = process.pid, Path(f"/proc/self/fd/{process.stdout.fileno()}").readlink()
    process.itself = process  # as the frames of a failed test hold what they had
    del process
    gc.collect()
    wait_until(lambda: ended(pid))
    assert output not in open_files()
    assert unraisable == []


def open_files():
    found = set()
    for each in Path("/proc/self/fd").iterdir():
        try:
            found.add(each.readlink())
        except FileNotFoundError:  # closed meanwhile
            continue
    return found


@pytest.mark.parametrize("cold", [False, True])
@pytest.mark.parametrize("way", ["killed", "stopped", "dead"])
def test_a_server_leaves_nothing_open_however_it_ends(tmp_path, unraisable, way, cold):
    server = Server(tmp_path / "data", cold=cold).start()
    pid, output = server.process.pid, server.process.stdout
    if way == "killed":
        server.kill()
    elif way == "stopped":
        assert server.stop() == 0
    else:  # and nobody asks the server for it
        os.kill(pid, signal.SIGKILL)
        server.process.wait(60)
    del server
    wait_until(partial(getattr, output, "closed"))
    assert ended(pid)
    del output
    gc.collect()
    assert unraisable == []


def test_a_server_that_does_not_start_leaves_nothing_open(tmp_path, unraisable):
    server = Server(tmp_path / "data", BLOBS_URL="file:///proc/no-such-directory")
    with pytest.raises(AssertionError, match="serve ended with 1"):
        server.start()
    assert server.process.stdout.closed
    assert ended(server.process.pid)
    del server
    gc.collect()
    assert unraisable == []
