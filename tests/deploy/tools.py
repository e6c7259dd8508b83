"""What deploy/ and the workflow are tested with: packages of PyPI, in a folder of their own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.servers.server import BUILD, ROOT

TOOLS = BUILD / "tools-python"
DEPLOY = ROOT / "deploy"


def run(
    command: Sequence[str | Path],
    *,
    cwd: Path = ROOT,
    environment: Mapping[str, str] | None = None,
    code: int = 0,
) -> subprocess.CompletedProcess[str]:
    """Run it with the tools on its path, and nothing else of our environment; it must end with
    this code."""
    done = subprocess.run(
        [str(part) for part in command],
        check=False,
        cwd=cwd,
        env={
            "PATH": f"{TOOLS / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": str(TOOLS),
            "HOME": str(cwd),
            **(environment or {}),
        },
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert TOOLS.exists(), "Install the tools: scripts/setup-services tools"
    assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
    return done
