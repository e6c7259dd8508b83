"""`-m integration`, `-m performance` and `-k stress` each choose tests."""

import json
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
PERFORMANCE = "test_ai_usage_performance_integration.py"
FILES = [
    "test_client_manager_integration.py",
    "test_ai_usage_integration.py",
    PERFORMANCE,
    "handler/test_handler.py",
]
PROGRAM = """
import json, sys
import pytest

class Found:
    def pytest_collection_finish(self, session):
        self.items = [
            [str(item.path), item.name, [each.name for each in item.iter_markers()]]
            for item in session.items
        ]

found = Found()
pytest.main(["--collect-only", "-qq", "-p", "no:cacheprovider", *sys.argv[1:]], [found])
print("\\n" + json.dumps(found.items))
"""


def test_every_selection_chooses_tests():
    """By what pytest knows of each test: its marks, and its name."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *(str(FOLDER / each) for each in FILES)],
        capture_output=True,
        text=True,
        check=True,
        cwd=FOLDER.parents[1],
    )
    found = json.loads(done.stdout.splitlines()[-1])
    integration = {path for path, _, marks in found if "integration" in marks}
    assert integration == {str(FOLDER / each) for each in FILES}
    performance = [path for path, _, marks in found if "performance" in marks]
    assert {*performance} == {str(FOLDER / PERFORMANCE)}
    stress = [path for path, name, _ in found if "stress" in name]
    assert {*stress} == {str(FOLDER / PERFORMANCE)}
    assert (len(found) > 40, len(performance) >= 7, len(stress) >= 2) == (True, True, True)
