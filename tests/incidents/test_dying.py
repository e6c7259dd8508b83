"""Whoever dies, and wherever: each effect is brought about once, and every history is whole."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.incidents.dying import ANSWERED
from tests.incidents.test_chain import WHOLE

ROOT = Path(__file__).parents[2]
SCENARIOS = [
    *(f"stage_worked,{nth},alone" for nth in (1, 3, 5)),
    *(f"stage_settled,{nth},alone" for nth in (1, 4)),
    *(f"{point},1,joined" for point in ("stage_worked", "stage_settled")),
    *(f"{point},1,joined" for point in ("tool_begun", "tool_performed", "tool_recorded")),
]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What came of every scenario: one process imports, and forks for each."""
    folder = tmp_path_factory.mktemp("dying")
    command = [sys.executable, "-m", "tests.incidents.dying", str(folder), *SCENARIOS, ANSWERED]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_chain_that_is_killed_goes_on_and_each_effect_happens_once(results, name):
    found = results[name]
    assert found.pop("codes") == [0, -signal.SIGKILL, 0], "it was to die there"
    assert found == {
        "statuses": ["resolved"] * 3,
        "effects": [1, 1, 1],
        "contiguous": True,
        "types": [len(WHOLE)],
        "left": 0,
    }


def test_a_request_that_is_repeated_after_a_kill_has_its_exception_once(results):
    """Committed, and its answer lost: the same key is answered with what there is."""
    found = results[ANSWERED]
    assert found["code"] == -signal.SIGKILL, "it was to die there"
    assert found["answered"] == found["kept"]
    assert len(found["kept"]) == 1
