"""`make run`, as a new user types it, but with its own directory and port."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.running import wait_until


class Demo:
    """A running `nilometer demo`, as `make run` starts it; its output grows in `text`."""

    def __init__(self, data_dir):
        self.log = data_dir.with_suffix(".out").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "nilometer", "demo", "--data-dir", str(data_dir), "--port", "0"],
            stdout=self.log,
            stderr=subprocess.STDOUT,
            env={k: v for k, v in os.environ.items() if not k.startswith("NILOMETER_")}
            | {"COLUMNS": "120", "NILOMETER_OTLP_GRPC_PORT": "0"},
            start_new_session=True,
        )

    @property
    def text(self):
        return Path(self.log.name).read_text()

    def wait_shown(self):
        def shown():
            assert self.process.poll() is None, self.text
            return "Ctrl-C" in self.text

        wait_until(shown, seconds=60, what=self.text)
        return self.text

    def interrupt(self):
        """Ctrl-C, which a terminal sends to every process in front."""
        os.killpg(self.process.pid, signal.SIGINT)
        code = self.process.wait(60)
        self.log.close()
        return code


@pytest.mark.timeout(180)
def test_make_run_shows_the_traffic_and_finds_its_data_again(tmp_path):
    first = Demo(tmp_path / "data")
    text = first.wait_shown()
    assert re.search(r"http://127\.0\.0\.1:\d+", text)
    assert len(set(re.findall(r"nlm_(?:proj|user)_\S+", text))) == 2
    assert "answer a support question" in text
    for name in ("retrieve", "embed-question", "agent", "first-try", "read-statement", "answer"):
        assert name in text
    assert "RateLimitError" in text or "429" in text
    assert "identical to what was sent" in text
    for name in ("ExceptionIngested", "TriageCompleted", "PolicyEvaluated", "ExceptionResolved"):
        assert name in text
    assert "budget_hard_stop" in text
    assert "The webhook was called once" in text
    assert "May a call of this job be made now? no" in text
    assert first.interrupt() == 0
    assert "Traceback" not in text

    second = Demo(tmp_path / "data")
    text = second.wait_shown()
    assert re.search(r"9 events\b.* from earlier", text)
    assert "The webhook was called once" in text
    assert second.interrupt() == 0
