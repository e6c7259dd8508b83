"""LiteLLM's callback in its proxy and its SDK, newest and of half a year ago: every call once, with
what it cost, on a server and in a file."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.clients.litellm_example import (
    EXAMPLE,
    OVERLAYS,
    PAGE,
    VERSIONS,
    blocks,
    environment,
    example_proxy,
)
from tests.clients.litellm_proxy import CLIENTS, MASTER_KEY
from tests.clients.mock_agents import TEXT
from tests.clients.mock_anthropic import ANSWERING, BROKEN, REFUSING, mock_anthropic
from tests.running import Server, running, wait_until

CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
SESSION = "1c9a3a4e-8d0c-4c58-9d0d-3f1f3cb0a001"

# What each answer used, at $3 and $15 a million tokens, and at $5 and $25: 40 of input, 1000 read
# from the cache, 200 and 100 written to it for five minutes and an hour, 25 of output.
ANSWER, REFUSAL = Decimal("0.002145"), Decimal("0.003575")


# LiteLLM's own cost: 1.85 has no price of this model's cache for an hour.
REPORTED = {"newest": ANSWER, "older": ANSWER - Decimal("0.0006")}


@dataclass(frozen=True)
class Asked:
    """A call, and what is to be told of it."""

    path: str
    model: str
    status: int
    cost: Decimal | None
    stream: bool = False


ASKED = (
    Asked(CHAT, ANSWERING, 200, ANSWER),
    Asked(CHAT, ANSWERING, 200, ANSWER, stream=True),
    Asked(MESSAGES, ANSWERING, 200, ANSWER),
    Asked(MESSAGES, ANSWERING, 200, ANSWER, stream=True),
    Asked(CHAT, REFUSING, 200, REFUSAL),
    Asked(MESSAGES, REFUSING, 200, REFUSAL),
    Asked(CHAT, BROKEN, 500, None),
    Asked(MESSAGES, BROKEN, 500, None),
    Asked(CHAT, "unknown", 400, None),
    Asked(MESSAGES, "unknown", 400, None),
)


def ask(proxy: httpx.Client, asked: Asked) -> None:
    body = {
        "model": asked.model,
        "messages": [{"role": "user", "content": "How high is the river?"}],
        "max_tokens": 100,
        "num_retries": 0,
        "stream": asked.stream,
    }
    headers = {"x-claude-code-session-id": SESSION}
    answer = proxy.post(asked.path, json=body, headers=headers)
    assert answer.status_code == asked.status, answer.text
    if asked.model == ANSWERING:
        assert TEXT in answer.text or asked.stream


def lines(folder: Path) -> list[dict[str, Any]]:
    text = "".join(file.read_text() for file in sorted(folder.glob("litellm-traces-*.jsonl")))
    return [json.loads(line) for line in text.splitlines()]


def calls(server: Server, project: int) -> list[dict[str, Any]]:
    sql = "SELECT * FROM calls ORDER BY timestamp"
    with server.client() as http:
        query = {"query": {"kind": "HogQLQuery", "query": sql}}
        answer = http.post(f"/api/projects/{project}/query/", json=query)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    return [dict(zip(body["columns"], row, strict=True)) for row in body["results"]]


def script_of_the_page(url: str, key: str, folder: Path) -> str:
    [script] = [block for block in blocks("bash") if "start-litellm-proxy" in block]
    known = {"http://localhost:8000": url, "the-project-key": key, "/var/log/litellm": str(folder)}
    for written, real in known.items():
        assert written in script
        script = script.replace(written, real)
    return script


@pytest.mark.timeout(400)
@pytest.mark.parametrize("version", VERSIONS)
def test_the_example_proxy_tells_of_every_call_once_with_its_cost(version: str, tmp_path: Path):
    logs = tmp_path / "logs"
    with running(tmp_path / "data") as server, mock_anthropic() as upstream:
        with server.client() as http:
            made = http.post("/api/projects/", json={"name": "LiteLLM"}).json()
        project = made["id"]
        script = script_of_the_page(server.url, made["api_token"], logs)
        variables = environment(
            version, ANTHROPIC_BASE_URL=upstream, NILOMETER_SPOOL_DIR=str(tmp_path / "spool")
        )
        with example_proxy(tmp_path, script, variables) as proxy:
            for asked in ASKED:
                ask(proxy, asked)
            wait_until(lambda: len(lines(logs)) >= len(ASKED), what="the file has every call")
        wait_until(
            lambda: len(calls(server, project)) >= len(ASKED), what="the server has every call"
        )
        # The proxy has ended: nothing is to come any more.
        check_file(lines(logs), REPORTED[version])
        check_server(calls(server, project), REPORTED[version])
        assert not list((tmp_path / "spool").rglob("*.jsonl"))
        check_ingested(logs, tmp_path)
        for secret in (MASTER_KEY, "sk-ant-", made["api_token"]):
            assert secret not in "".join(file.read_text() for file in logs.iterdir())


def reported(cost: Any) -> Decimal:
    """LiteLLM's cost without the noise of its floats."""
    return round(Decimal(cost), 9)


def check_file(found: list[dict[str, Any]], of_an_answer: Decimal) -> None:
    assert len(found) == len(ASKED)
    for asked, line in zip(ASKED, sorted(found, key=lambda each: each["startTime"]), strict=True):
        assert line["status"] == ("failure" if asked.cost is None else "success")
        assert line["model"].removeprefix("anthropic/") == asked.model
        cost = of_an_answer if asked.cost == ANSWER else asked.cost or 0
        assert reported(line["response_cost"]) == cost
        assert line["session_id"] == SESSION
        assert "user_api_key_hash" not in line["metadata"]


def check_ingested(logs: Path, directory: Path) -> None:
    """What the page's commands make of the files."""
    [script] = [block for block in blocks("bash") if "traces ingest" in block]
    assert "/var/log/litellm" in script
    script = script.replace("/var/log/litellm", str(logs))
    script += "nilometer traces report --db traces.db --format json > report.json\n"
    done = subprocess.run(
        ["bash", "-c", f"set -euo pipefail\n{script}"],
        cwd=directory,
        env={"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    total = json.loads((directory / "report.json").read_text())["total"]
    failed = sum(asked.cost is None for asked in ASKED)
    assert (total["calls"], total["errors"]) == (len(ASKED), failed)
    assert Decimal(total["cost_usd"]) == sum(asked.cost or 0 for asked in ASKED)


def check_server(found: list[dict[str, Any]], of_an_answer: Decimal) -> None:
    assert len(found) == len(ASKED)
    for asked, call in zip(ASKED, found, strict=True):
        assert call["is_error"] is (asked.cost is None)
        assert call["http_status"] == (None if asked.cost else asked.status)
        assert call["model"].removeprefix("anthropic/") == asked.model
        assert call["session_id"] == SESSION
        if asked.cost is not None:
            assert Decimal(call["cost_total"]) == asked.cost
            cost = of_an_answer if asked.cost == ANSWER else asked.cost
            assert reported(call["reported_total_cost_usd"]) == cost


@pytest.mark.parametrize("version", VERSIONS)
def test_the_sdk_tells_of_calls_made_either_way(version: str, tmp_path: Path):
    [code] = blocks("py")
    with mock_anthropic() as upstream:
        variables = environment(
            version,
            ANTHROPIC_BASE_URL=upstream,
            ANTHROPIC_API_KEY="sk-ant-",
            LITELLM_LOG_DIR=str(tmp_path / "logs"),
            NILOMETER_SPOOL_DIR=str(tmp_path / "spool"),
        )
        done = subprocess.run(
            [CLIENTS / "bin" / "python", "-c", code],
            env=variables,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    found = sorted(lines(tmp_path / "logs"), key=lambda line: line["startTime"])
    assert [line["call_type"] for line in found] == ["completion", "acompletion", "completion"]
    assert [line["status"] for line in found] == ["success", "success", "success"]
    assert {reported(line["response_cost"]) for line in found} == {REPORTED[version]}


def test_the_example_has_models_that_litellm_knows():
    config = yaml.safe_load((EXAMPLE / "litellm_config.yaml").read_text())
    models = [each["litellm_params"]["model"] for each in config["model_list"]]
    prices = OVERLAYS["newest"] / "litellm" / "model_prices_and_context_window_backup.json"
    known = json.loads(prices.read_text())
    unknown = [name for name in models if name not in known and name.partition("/")[2] not in known]
    assert unknown == []
    assert len(set(models)) == len(models) >= 50
    assert len({each["model_name"] for each in config["model_list"]}) == len(models)
    [told] = re.findall(r"with (\d+) of\s+Anthropic's models", PAGE.read_text())
    assert int(told) == len(models)


def test_the_example_and_the_page_have_the_callback():
    [page] = blocks("yaml")
    example = yaml.safe_load((EXAMPLE / "litellm_config.yaml").read_text())
    assert yaml.safe_load(page)["litellm_settings"] == example["litellm_settings"]
