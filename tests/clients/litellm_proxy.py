"""A real LiteLLM proxy in a process of its own, with the configuration of its page."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.running import wait_until
from tests.servers.server import free_port

ROOT = Path(__file__).parents[2]
CLIENTS = ROOT / ".build" / "clients"
# LiteLLM's `langfuse` callback wants an older Langfuse than the current one.
OLDER = ROOT / ".build" / "clients-older"
MASTER_KEY = "sk-nilometer-Test-0123456789abcdef"


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of a page of docs/clients in that language."""
    text = (ROOT / "docs" / "clients" / page).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


@contextmanager
def litellm_proxy(
    directory: Path, config: str, environment: Mapping[str, str]
) -> Iterator[httpx.Client]:
    """A client of a proxy that runs with this configuration and environment."""
    assert (CLIENTS / "bin" / "litellm").exists(), "run scripts/setup-clients"
    path = directory / "config.yaml"
    path.write_text(config)
    port = free_port()
    known = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    known |= {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_MASTER_KEY": MASTER_KEY,
        "DEFAULT_FLUSH_INTERVAL_SECONDS": "1",
        "OTEL_BSP_SCHEDULE_DELAY": "300",
        "LANGFUSE_FLUSH_INTERVAL": "1",
        "PYTHONPATH": str(OLDER),
    }
    log = directory / "proxy.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [
                *(CLIENTS / "bin" / "litellm", "--config", path),
                *("--host", "127.0.0.1", "--port", str(port)),
            ],
            env=known | dict(environment),
            cwd=directory,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    headers = {"Authorization": f"Bearer {MASTER_KEY}"}
    try:
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=60, trust_env=False
        ) as client:
            wait_until(lambda: _live(client, process, log), seconds=150, what="the proxy")
            yield client
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(20)


def _live(client: httpx.Client, process: subprocess.Popen[bytes], log: Path) -> bool:
    assert process.poll() is None, log.read_text()[-4000:]
    try:
        return client.get("/health/liveliness").status_code == 200
    except httpx.HTTPError:
        return False
