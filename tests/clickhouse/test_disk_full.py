"""A full disk refuses an insert, and what was not refused is there."""

import json
import subprocess
import sys
from pathlib import Path

from tests.small_disk import on_a_small_disk

SCRIPT = 'head -c 24000000 /dev/zero > "$0/ballast" && exec "$1" -m tests.clickhouse.filling "$0"'


def test_a_full_disk_refuses_the_insert_and_room_lets_the_next_one_in(tmp_path: Path):
    """chDB's streaming insert answers with success here, and stores nothing."""
    command = ["sh", "-c", SCRIPT, str(tmp_path), sys.executable]
    command = on_a_small_disk(tmp_path, "48m", command)
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert "NOT_ENOUGH_SPACE" in found["refused"]
    assert found["ready"] is False
    assert found["stored"] == found["acknowledged"] > 0
