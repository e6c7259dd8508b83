"""OpenTelemetry's own exporters, as their page sets them up, against a running server."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.running import KEY, Server, wait_until
from tests.servers.server import free_port

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".build" / "clients" / "bin" / "python"
PAGE = (ROOT / "docs" / "clients" / "opentelemetry.md").read_text()
[SNIPPET] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)

EXPORT = """
import sys
from opentelemetry.exporter.otlp.proto.{kind}.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

made = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(made))
tracer = provider.get_tracer("tests")
for number in range({count}):
    tracer.start_span("step", attributes={{"number": number, "http.route": "/"}}).end()
exporter = OTLPSpanExporter(timeout=10)
for _ in range({times}):
    print(exporter.export(made.get_finished_spans()).name)
"""


class Exporters:
    """A server, and exporters of both protocols set up for it by nothing but environment."""

    def __init__(self, directory: Path) -> None:
        self.grpc_port = free_port()
        self.server = Server(directory / "data", OTLP_GRPC_PORT=self.grpc_port)
        self.server.start().wait_ready()

    def run(self, script: str, kind: str, key: str = KEY, **environment: str) -> str:
        grpc = f"http://127.0.0.1:{self.grpc_port}"
        variables = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": grpc if kind == "grpc" else self.server.url,
            "OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer%20{key}",
        }
        done = subprocess.run(
            [str(PYTHON), "-c", script],
            env=variables | environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=90,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def rows(self, sql: str) -> list[dict[str, Any]]:
        with self.server.client() as http:
            asked = {"query": {"kind": "HogQLQuery", "query": sql}}
            answer = http.post("/api/projects/1/query/", json=asked)
        assert answer.status_code == 200, answer.text
        body = answer.json()
        return [dict(zip(body["columns"], row, strict=True)) for row in body["results"]]

    def count(self, event: str) -> int:
        [row] = self.rows(f"SELECT count() AS n FROM events WHERE event = '{event}'")
        return row["n"]


@pytest.fixture(scope="module")
def exporters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exporters]:
    made = Exporters(tmp_path_factory.mktemp("otlp"))
    yield made
    made.server.stop()


@pytest.mark.parametrize(
    ("kind", "compression"), [("http", ""), ("http", "gzip"), ("grpc", ""), ("grpc", "gzip")]
)
def test_the_documented_example_arrives_with_its_tokens(exporters, kind, compression):
    before = len(exporters.rows("SELECT * FROM calls"))
    script = SNIPPET.replace("otlp.proto.http", f"otlp.proto.{kind}")
    chosen = {"OTEL_EXPORTER_OTLP_COMPRESSION": compression} if compression else {}
    told = exporters.run(script, kind, **chosen)
    assert told == ""
    wait_until(lambda: len(exporters.rows("SELECT * FROM calls")) > before, what="the call")
    [call] = exporters.rows("SELECT * FROM calls ORDER BY timestamp DESC LIMIT 1")
    assert (call["model"], call["provider"]) == ("gpt-4o-mini", "openai")
    assert (call["input_tokens"], call["output_tokens"]) == (100, 20)
    [root] = exporters.rows(
        f"SELECT event, parent_id FROM events WHERE trace_id = '{call['trace_id']}' "
        "AND event = '$ai_trace'"
    )
    assert root["parent_id"] in (None, "")


@pytest.mark.parametrize("kind", ["http", "grpc"])
def test_spans_sent_again_are_the_same_events(exporters, kind):
    before = exporters.count("$ai_trace")
    told = exporters.run(EXPORT.format(kind=kind, count=20, times=3), kind)
    assert told.split() == ["SUCCESS"] * 3
    exporters.run(EXPORT.format(kind=kind, count=1, times=1), kind)
    wait_until(lambda: exporters.count("$ai_trace") >= before + 21, what="the last span")
    assert exporters.count("$ai_trace") == before + 21


@pytest.mark.parametrize("kind", ["http", "grpc"])
def test_a_wrong_key_is_told_and_not_tried_again(exporters, kind):
    script = EXPORT.format(kind=kind, count=1, times=1)
    told = exporters.run(script, kind, key="nlm_proj_nobody-has-this-key")
    assert "FAILURE" in told
    assert "401" in told or "UNAUTHENTICATED" in told


def test_every_span_that_was_acknowledged_survives_kill_9(tmp_path):
    exporters = Exporters(tmp_path)
    try:
        for kind in ("http", "grpc"):
            told = exporters.run(EXPORT.format(kind=kind, count=200, times=1), kind)
            assert told.strip() == "SUCCESS"
        exporters.server.kill()
        exporters.server.start().wait_ready()
        wait_until(lambda: exporters.count("$ai_trace") == 400, what="400 spans after the kill")
    finally:
        exporters.server.stop()
