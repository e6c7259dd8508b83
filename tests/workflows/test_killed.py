"""kill -9 at every point where something is committed: nothing is lost, nothing is done twice but
what nobody can know of, and the log gets everything in order."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.workflows.killed import LANES, POINTS

ROOT = Path(__file__).parents[2]
BEFORE_ANY_EFFECT = {"stage_worked", "stage_settled", "tool_begun"}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    command = [sys.executable, "-m", "tests.workflows.killed", str(tmp_path_factory.mktemp("k"))]
    ran = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


@pytest.mark.parametrize("point", POINTS)
def test_a_killed_process_leaves_nothing_undone(found, point):
    assert found[point]["ends"] == [-9, 0]
    performed = found[point]["performed"]
    assert len(performed) == LANES
    # Of an effect that is under way when its process dies nobody can know: `begin` decides.
    assert max(performed.values()) <= (1 if point in BEFORE_ANY_EFFECT else 2)


@pytest.mark.parametrize("point", POINTS)
def test_the_log_gets_every_event_in_order_whoever_is_killed(found, point):
    told = list(dict.fromkeys(found[point]["told"]))  # each for the first time
    for lane in range(LANES):
        mine = [each for each in told if each.startswith(f"lane-{lane} ")]
        assert mine == [f"lane-{lane} 1", f"lane-{lane} 2"]
    repeated = len(found[point]["told"]) - len(told)
    assert repeated > 0 if point == "outbox_appended" else True
