"""Each engine loads its own driver alone."""

import subprocess
import sys

_OPENED = """
import sys
from pathlib import Path
from nilometer.clickhouse.address import Server
from nilometer.clickhouse.store import Store
{store}
sys.stdout.write(str([name for name in ("chdb", "urllib3") if name in sys.modules]))
"""


def loaded(store: str) -> str:
    command = [sys.executable, "-c", _OPENED.format(store=store)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def test_a_process_whose_store_is_on_a_server_does_not_load_the_engine():
    assert "chdb" not in loaded("Store(Server.parse('clickhouse://host'))")
    assert "chdb" in loaded("Store(Path('nowhere'))")
