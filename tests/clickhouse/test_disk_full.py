"""A full disk refuses an insert, and what was not refused is there."""

import json
import subprocess
import sys
from pathlib import Path

# A file system of its own in a mount namespace of its own: gone with the process.
SCRIPT = """
set -e
mount -t tmpfs -o size=48m tmpfs "$1"
head -c 24000000 /dev/zero > "$1/ballast"
exec "$2" -m tests.clickhouse.filling "$1"
"""


def test_a_full_disk_refuses_the_insert_and_room_lets_the_next_one_in(tmp_path: Path):
    """chDB's streaming insert answers with success here, and stores nothing."""
    command = ["unshare", "-rm", "sh", "-c", SCRIPT, "sh", str(tmp_path), sys.executable]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert "NOT_ENOUGH_SPACE" in found["refused"]
    assert found["ready"] is False
    assert found["stored"] == found["acknowledged"] > 0
