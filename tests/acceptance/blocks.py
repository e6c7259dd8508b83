"""The two `export` blocks of the acceptance plan, verbatim, as files that a shell can read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
LOCAL = HERE / "local.env"
PRODUCTION = HERE / "production.env"

_PRINT = "import json, os; print(json.dumps(dict(os.environ)))"


def pasted(block: str) -> dict[str, str]:
    """What the block exports, as bash understands it."""
    start = {"PATH": os.environ["PATH"]}
    script = f'{block}\n"$0" -c "$1"'
    done = subprocess.run(
        ["bash", "-euc", script, sys.executable, _PRINT],
        env=start,
        capture_output=True,
        text=True,
        check=True,
    )
    ignored = {*start, "PWD", "OLDPWD", "SHLVL", "_", "LC_CTYPE"}
    return {name: value for name, value in json.loads(done.stdout).items() if name not in ignored}
