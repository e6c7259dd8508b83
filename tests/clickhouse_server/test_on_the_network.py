"""What other rooms prove on the engine in process holds on a server: the same tests, run again.

These are the ones in which the way to the engine matters; all of them run there with
`NILOMETER_TEST_STORE=network pytest tests/pipeline tests/query tests/query_sql` (5 minutes).
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "tests",
    [
        ["tests/query_sql/test_fences.py", "tests/query_sql/test_escapes.py"],
        ["tests/pipeline/test_pipeline.py"],
    ],
    ids=lambda tests: Path(tests[0]).parent.name + "/" + Path(tests[0]).stem,
)
def test_the_same_tests_pass_with_the_store_on_a_server(tests: list[str]):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "COV_"))}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests],
        check=False,
        cwd=ROOT,
        env=environment | {"NILOMETER_TEST_STORE": "network"},
        capture_output=True,
        text=True,
        timeout=290,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    assert " passed" in done.stdout
