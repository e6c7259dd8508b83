"""posthog from PyPI, in each of its modes, against a running server: every event, once, as sent."""

import os
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import posthog
import pytest

from tests.running import KEY, Server, running, wait_until

PAGE = Path(__file__).parents[2] / "docs" / "clients" / "posthog.md"
PROPERTIES = {
    "$ai_model": "gpt-4o-mini",
    "$ai_provider": "openai",
    "$ai_input": [{"role": "user", "content": "é漢😀 " * 200}],
    "$ai_input_tokens": 12,
    "$ai_output_tokens": 4,
    "$ai_total_cost_usd": 0.000123,
    "ratio": 1.5,
}
MODES: dict[str, dict[str, Any]] = {
    "default": {},
    "gzip": {"gzip": True},
    "enable_full_ai_capture": {"enable_full_ai_capture": True},
    "v1": {"capture_mode": "v1"},
    "v1 gzip": {"capture_mode": "v1", "capture_compression": "gzip"},
    "v1 deflate": {"capture_mode": "v1", "capture_compression": "deflate"},
    "v1 zstd": {"capture_mode": "v1", "capture_compression": "zstd"},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("posthog") / "data") as server:
        yield server


@pytest.fixture
def failures() -> list[Any]:
    return []


def client(server: Server, failures: list[Any], **mode: Any) -> posthog.Posthog:
    return posthog.Posthog(
        KEY,
        host=server.url,
        on_error=lambda error, batch: failures.append((error, batch)),
        max_retries=0,
        **mode,
    )


def stored(server: Server, identifier: str) -> dict[str, Any]:
    """The event, once a reader sees it."""

    def found() -> dict[str, Any] | None:
        with server.client() as http:
            answer = http.get(f"/api/projects/1/events/{identifier}/")
            return answer.json() if answer.status_code == 200 else None

    return wait_until(found, what=f"event {identifier}")


def requests_of(server: Server, reason: str) -> float:
    """How many requests the door has answered so."""
    with server.client() as http:
        text = http.get("/metrics").text
    pattern = rf'nilometer_capture_requests_total{{door="posthog",reason="{reason}",[^}}]*}} (\S+)'
    return sum(float(value) for value in re.findall(pattern, text))


@pytest.mark.parametrize("mode", MODES)
def test_every_event_of_every_mode_arrives_once_as_it_was_sent(
    server: Server, failures: list[Any], mode: str
):
    trace = str(uuid.uuid4())
    sdk = client(server, failures, **MODES[mode])
    sent = [
        sdk.capture(
            "$ai_generation",
            distinct_id=f"user of {mode}",
            properties=PROPERTIES | {"$ai_trace_id": trace, "number": number},
        )
        for number in range(5)
    ]
    sdk.shutdown()
    assert failures == []
    for number, identifier in enumerate(sent):
        assert identifier is not None
        event = stored(server, identifier)
        assert (event["event"], event["distinct_id"]) == ("$ai_generation", f"user of {mode}")
        properties = event["properties"]
        assert {name: properties[name] for name in PROPERTIES} == PROPERTIES
        assert properties["number"] == number
        assert properties["$lib"] == "posthog-python"
        assert properties["$lib_version"] == posthog.VERSION
        assert KEY not in str(event)
    count = "SELECT count() FROM events WHERE trace_id = {trace:String}"
    with server.client() as http:
        rows = http.post(
            "/api/projects/1/query/",
            json={"query": {"kind": "HogQLQuery", "query": count, "values": {"trace": trace}}},
        )
    assert (rows.status_code, rows.json()["results"]) == (200, [[5]])


@pytest.mark.parametrize("mode", ["default", "v1"])
def test_capture_ai_sends_to_the_ai_door(server: Server, failures: list[Any], mode: str):
    sdk = client(server, failures, **MODES[mode])
    large = {"$ai_trace_id": "t", "$ai_input": "x" * 2_000_000}
    identifier = sdk.capture_ai("$ai_span", distinct_id="d", properties=large)
    sdk.shutdown()
    assert failures == []
    assert identifier is not None
    assert len(stored(server, identifier)["properties"]["$ai_input"]) == 2_000_000


def test_the_sdk_hears_why_it_was_refused(server: Server, failures: list[Any]):
    sdk = posthog.Posthog(
        "phc_unknown-0123456789",
        host=server.url,
        on_error=lambda error, batch: failures.append((error, batch)),
        max_retries=0,
    )
    sdk.capture("$ai_span", distinct_id="d")
    sdk.shutdown()
    [(error, batch)] = failures
    assert "API key is not valid" in str(error)
    assert len(batch) == 1


def test_v1_drops_the_bad_event_alone(server: Server, failures: list[Any]):
    sdk = client(server, failures, capture_mode="v1")
    bad = sdk.capture("$ai_span", distinct_id="x" * 1001)
    good = sdk.capture("$ai_span", distinct_id="d")
    sdk.shutdown()
    assert good is not None
    stored(server, good)
    assert bad in str(getattr(failures[0][0], "drops", failures))


def test_a_person_and_an_ordinary_event_are_kept_too(server: Server, failures: list[Any]):
    sdk = client(server, failures)
    person = sdk.set(distinct_id="d", properties={"plan": "pro"})
    page = sdk.capture("page viewed", distinct_id="d", properties={"path": "/"})
    sdk.shutdown()
    assert failures == []
    assert person is not None
    assert page is not None
    assert stored(server, person)["properties"]["$set"] == {"plan": "pro"}
    assert stored(server, page)["event"] == "page viewed"


def test_the_example_of_the_page_works_as_written(server: Server, tmp_path: Path):
    [code] = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    before = requests_of(server, "ok")
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        env=os.environ | {"NILOMETER_URL": server.url, "NILOMETER_API_KEY": KEY},
    )
    assert done.returncode == 0, done.stderr
    assert requests_of(server, "ok") == before + 1
