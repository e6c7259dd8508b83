"""LiteLLM's proxy as docs/litellm.md and examples/litellm start it, of the wanted version."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.clients.litellm_proxy import CLIENTS, MASTER_KEY, ROOT
from tests.running import wait_until
from tests.servers.server import free_port

VERSIONS = ("newest", "older")
OVERLAYS = {version: ROOT / ".build" / f"litellm-{version}" for version in VERSIONS}
EXAMPLE = ROOT / "examples" / "litellm"
PAGE = ROOT / "docs" / "litellm.md"


def blocks(language: str) -> list[str]:
    """The page's code blocks in that language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)


def environment(version: str, **variables: str) -> dict[str, str]:
    """Of a process that finds this version of LiteLLM, and Nilometer."""
    overlay = OVERLAYS[version]
    assert (overlay / "litellm").is_dir(), "run scripts/setup-clients"
    known = {name: os.environ[name] for name in ("HOME", "LANG") if name in os.environ}
    return known | {
        "PATH": f"{CLIENTS / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": f"{overlay}:{ROOT / 'src'}",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        **variables,
    }


@contextmanager
def example_proxy(
    directory: Path, script: str, variables: Mapping[str, str]
) -> Iterator[httpx.Client]:
    """A client of the proxy that the script, a text of bash run from the repository's folder,
    starts: it is healthy when the script says so."""
    port = free_port()
    log = directory / "proxy.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            ["bash", "-c", f"set -euo pipefail\n{script}"],
            env=dict(variables) | {"PORT": str(port), "LITELLM_MASTER_KEY": MASTER_KEY},
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        healthy = f"LiteLLM is healthy on http://127.0.0.1:{port}; "
        wait_until(lambda: _says(healthy, process, log), seconds=150, what="the proxy")
        headers = {"Authorization": f"Bearer {MASTER_KEY}"}
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=60, trust_env=False
        ) as client:
            yield client
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(30)
            raise


def _says(text: str, process: subprocess.Popen[bytes], log: Path) -> bool:
    said = log.read_text()
    assert process.poll() is None, said[-4000:]
    return text in said
