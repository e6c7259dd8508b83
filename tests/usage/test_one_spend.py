"""A script with the real OpenAI and Anthropic libraries shows the same exact spend by job in the
terminal, the JSON, the HTML report and the Lambda's answer."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import subprocess
import sys
from decimal import Decimal
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from uuid import uuid4

import pytest
from typer.testing import CliRunner

from nilometer.cli.app import app
from nilometer.dynamodb import table
from nilometer.usage import lambda_handler
from tests.integrations.upstream import CHAT, EMBEDDING, MESSAGE, serving
from tests.running import KEY, running, wait_until

PAGE = Path(__file__).parents[2] / "docs" / "reports.md"
SCRIPT = re.search(r"^```py\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)[1]

# Dollars a million: input, cached, output.
_CHAT = (60 * Decimal("0.15") + 40 * Decimal("0.075") + 50 * Decimal("0.6")) / 1_000_000
_MESSAGE = (100 * Decimal(3) + 1000 * Decimal("0.3") + 50 * Decimal(15)) / 1_000_000
_EMBEDDING = 10 * Decimal("0.02") / 1_000_000
SPEND = {"nightly": _CHAT + _MESSAGE + _EMBEDDING, "weekly": _CHAT + _MESSAGE}

_calls = itertools.count(1)


def provider(handler: BaseHTTPRequestHandler) -> None:
    """Both providers: each answer is another call."""
    number = next(_calls)
    if handler.path.endswith("/messages"):
        body = {**MESSAGE, "id": f"msg_{number}"}
    elif handler.path.endswith("/embeddings"):
        body = EMBEDDING
    else:
        body = {**CHAT, "id": f"chatcmpl-{number}"}
    answer = json.dumps(body).encode()
    handler.send_response(200)
    handler.send_header("content-type", "application/json")
    handler.send_header("content-length", str(len(answer)))
    handler.send_header("x-request-id", f"req_{number}")
    handler.end_headers()
    handler.wfile.write(answer)


def shown(*arguments, **environment):
    done = CliRunner().invoke(app, [*arguments], env=environment)
    assert done.exit_code == 0, done.output
    return done.stdout


def in_table(text):
    """The cost that stands beside each job of a table in the terminal."""
    return {job: Decimal(re.search(rf"^ *{job} +\$(\S+)", text, re.MULTILINE)[1]) for job in SPEND}


def in_page(text):
    row = r'<th scope=row>{}</th><td><data value="([^"]+)">(.*?)</data>'
    found, jobs = {}, text.partition("<h2>By job</h2>")[2]
    for job in SPEND:
        value, told = re.search(row.format(job), jobs).groups()
        assert "".join(re.findall(r"[\d.]", re.sub(r"<[^>]+>", "", told))) == value
        found[job] = Decimal(value)
    return found


def in_lambda(monkeypatch, name, endpoint):
    key = "a-readers-key"
    monkeypatch.setenv(lambda_handler.TABLE, name)
    monkeypatch.setenv(lambda_handler.KEY_HASHES, hashlib.sha256(key.encode()).hexdigest())
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", endpoint)
    asked = {"aggregation": "job"}
    request = {"httpMethod": "GET", "queryStringParameters": asked}
    answer = lambda_handler.handler(request | {"headers": {"authorization": f"Bearer {key}"}})
    lambda_handler._readers.pop(name).close()
    assert answer["statusCode"] == 200, answer
    groups = json.loads(answer["body"])["aggregations"]["by_job"]
    return {job: Decimal(group["cost_usd_exact"]) for job, group in groups.items()}


def test_the_script_has_at_most_fifteen_lines():
    assert len([line for line in SCRIPT.splitlines() if line.strip()]) <= 15


def test_one_spend_by_job_everywhere(dynamodb_local, tmp_path, monkeypatch):
    name, local = f"test-{uuid4().hex}", dynamodb_local.client()
    table.create(local, name, sleep=lambda _: None)
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(variable, "nilometer")
    monkeypatch.setenv("AWS_REGION", dynamodb_local.region)
    of_table = f"dynamodb://{name}?region={dynamodb_local.region}"
    of_table += f"&endpoint_url={dynamodb_local.endpoint}"
    of_file = f"jsonl://{tmp_path}/usage.jsonl"
    with serving(provider) as upstream, running(tmp_path / "data") as server:
        for variable, value in {
            "NILOMETER_SINK": f"{server.url},{of_table},{of_file}",
            "NILOMETER_API_KEY": KEY,
            "NILOMETER_URL": server.url,
            "NILOMETER_SPOOL_DIR": str(tmp_path / "spool"),
            "OPENAI_API_KEY": "test-key",
            "OPENAI_BASE_URL": f"{upstream}/v1",
            "ANTHROPIC_API_KEY": "test-key",
            "ANTHROPIC_BASE_URL": upstream,
        }.items():
            monkeypatch.setenv(variable, value)
        subprocess.run([sys.executable, "-c", SCRIPT], check=True, timeout=60, cwd=tmp_path)

        with server.client() as http:

            def of_server():
                answer = http.get("/ai_usage", params={"aggregation": "job"}).json()
                return answer if answer["summary"]["call_count"] == 5 else None

            answer = wait_until(of_server, what="five calls")
        groups = answer["aggregations"]["by_job"]
        assert {job: Decimal(each["cost_usd_exact"]) for job, each in groups.items()} == SPEND
        assert in_lambda(monkeypatch, name, dynamodb_local.endpoint) == SPEND
        for source in (server.url, of_table, of_file):
            where = ["--source", source]
            grouped = [*where, "--group-by", "job"]
            assert in_table(shown("usage", "--by", "job", *where)) == SPEND
            assert in_table(shown("report", *grouped)) == SPEND
            document = json.loads(shown("report", *grouped, "--format", "json"))
            lines = document["tables"][0]["lines"]
            assert {line["job"]: Decimal(line["cost_usd"]) for line in lines} == SPEND
            assert Decimal(document["total"]["cost_usd"]) == sum(SPEND.values())
            assert Decimal(document["savings"]["cache"]["read_saved_usd_exact"]) == 2 * (
                (40 * Decimal("0.075") + 1000 * Decimal("2.7")) / 1_000_000
            )
            file = tmp_path / "spend.html"
            shown("report", *grouped, "--format", "html", "--output", str(file))
            assert in_page(file.read_text()) == SPEND
    local.delete_table(TableName=name)


@pytest.mark.parametrize("word", ["openai", "anthropic", "usage_context(job_id"])
def test_the_script_uses_what_it_promises(word):
    assert word in SCRIPT
