"""Nilometer's own spans, sent by OTLP to its own door: a trace from a caller's request to the tool
that handled it, read back as every other trace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx

from tests.integration.test_e2e_async_flow import PARENT, SETTINGS, Tenant
from tests.running import KEY, Server, wait_until
from tests.servers.server import free_port
from tests.tools.receiver import receiving

TRACE, CALLER = PARENT.split("-")[1:3]


def test_an_exception_is_one_trace_from_the_request_to_its_tool(tmp_path: Path) -> None:
    port = free_port()
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
        "OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer%20{KEY}",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }
    given = {**SETTINGS, "PORT": port, "TRACING": "otlp"}
    server = Server(tmp_path / "data", environment=environment, **given).start()
    try:
        server.wait_ready()
        with receiving() as receiver, Tenant(server, receiver, ("handle",)) as tenant:
            answer = tenant.post(payload={"order": 7}, headers={"traceparent": PARENT})
            found = tenant.wait(answer.json()["exceptionId"], "resolved")
            sent = receiver.received[0].headers["traceparent"]
        with server.client() as client:
            spans = _flat(wait_until(lambda: _whole(client), seconds=30, what="9 spans"))
        assert server.stop() == 0
    finally:
        if server.process.poll() is None:
            server.kill()
    request = next(each for each in spans if each["name"] == "POST /exceptions")
    assert request["link"] == "orphan"  # below the caller's span, which is not here
    ids = {each["span_id"] for each in spans}
    told = {event["traceparent"] for event in found["events"]} | {sent, found["traceparent"]}
    assert {each.split("-")[1] for each in told} == {TRACE}
    assert {each.split("-")[2] for each in told} <= ids
    assert found["traceparent"].split("-")[2] == request["span_id"]
    [execution] = [each for each in spans if each["name"] == "execute handle"]
    assert sent.split("-")[2] == execution["span_id"]


def _whole(client: httpx.Client) -> list[dict[str, Any]] | None:
    """The tree, once all spans are in it."""
    answer = client.get(f"/api/projects/1/traces/{TRACE}/")
    if answer.status_code != 200 or answer.json()["event_count"] < 9:
        return None
    return answer.json()["tree"]


def _flat(nodes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [each for node in nodes for each in (node, *_flat(node["children"]))]
