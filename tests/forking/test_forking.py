"""Forked processes of `nilometer` are like new ones."""

import os
import signal
import subprocess
import sys

import pytest

from tests.forking import fork, run

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
