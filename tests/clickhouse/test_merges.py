"""A merge drops its sources: it must be on disk first."""

import json
import subprocess
import sys
from pathlib import Path

from tests.clickhouse.merging import PARTS


def test_a_merge_of_any_table_fails_when_it_cannot_be_synced_and_its_sources_stay(tmp_path: Path):
    """An engine that never syncs a merge succeeds here, and loses the rows with the power."""
    command = [sys.executable, "-m", "tests.clickhouse.merging", str(tmp_path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found) == {"events", "event_ids", "calls", "usage_days", "schema_migrations"}
    for table, result in found.items():
        assert result["refused"] == "CANNOT_FSYNC", table
        assert result["rows"] >= PARTS, table
