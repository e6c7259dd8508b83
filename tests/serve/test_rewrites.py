"""A pass over stored rows outlives the process that carries it out, and prices are refreshed."""

import http.server
import json
import threading
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from tests.running import Server, running, wait_until

CALL = {
    "$ai_model": "gpt-4o",
    "$ai_provider": "openai",
    "$ai_input_tokens": 1000,
    "$ai_output_tokens": 50,
}
OWN = {
    "provider": "openai",
    "model": "gpt-4o",
    "effective_from": "2020-01-01",
    "per_million_tokens": {"uncached_input": "1", "text_output": "1"},
}
PROJECT = "/api/projects/1"


def send(client: httpx.Client, count: int) -> None:
    batch = [
        {"event": "$ai_generation", "uuid": str(uuid4()), "distinct_id": "d", "properties": CALL}
        for _ in range(count)
    ]
    key = client.headers["Authorization"].removeprefix("Bearer ")
    client.post("/batch/", json={"api_key": key, "batch": batch}).raise_for_status()


def calls(client: httpx.Client) -> int:
    query = {"kind": "HogQLQuery", "query": "SELECT count() FROM calls"}
    answer = client.post(f"{PROJECT}/query/", json={"query": query})
    assert answer.is_success, answer.text
    return answer.json()["results"][0][0]


def repriced(client: httpx.Client, **more: Any) -> dict[str, Any]:
    asked = {"kind": "reprice", "from": "2020-01-01"} | more
    client.post(f"{PROJECT}/rewrites/", json=asked).raise_for_status()
    return finished(client)


def finished(client: httpx.Client) -> dict[str, Any]:
    """The newest pass, once it has ended."""
    identity = newest(client)["id"]
    wait_until(lambda: newest(client)["finished_at"], what="finished")
    return client.get(f"{PROJECT}/rewrites/{identity}/").json()


def newest(client: httpx.Client) -> dict[str, Any]:
    return client.get(f"{PROJECT}/rewrites/").json()["results"][0]


def test_a_reprice_goes_on_after_kill_9_and_counts_nothing_twice(tmp_path: Path):
    with running(tmp_path) as server, server.client() as client:
        send(client, 2500)
        wait_until(lambda: calls(client) == 2500, what="stored")
        client.post(f"{PROJECT}/price_overrides/", json=OWN).raise_for_status()
        [would] = repriced(client, dry_run=True)["findings"]
        assert (would["changed"], Decimal(would["before"])) == (2500, Decimal("7.5"))
        assert Decimal(would["after"]) == Decimal("2.625")
        server.stop()
    server = Server(tmp_path, FAILPOINTS="rewrite_written=kill@2").start().wait_ready()
    with server.client() as client:
        asked = {"kind": "reprice", "from": "2020-01-01"}
        client.post(f"{PROJECT}/rewrites/", json=asked).raise_for_status()
    server.wait_dead()
    with running(tmp_path) as server, server.client() as client:
        done = finished(client)
        assert (done["state"], done["total"], done["seen"]) == ("done", 2500, 2500)
        assert done["findings"] == [would]
        assert calls(client) == 2500
        assert repriced(client, dry_run=True)["changed"] == 0


def test_prices_are_refreshed_while_it_serves_if_asked_for(tmp_path: Path):
    model = {"id": "gpt-4o", "match": {"equals": "gpt-4o"}}
    prices = {"prices": {"input_mtok": "7", "output_mtok": "9"}}
    edition = [{"id": "openai", "name": "O", "api_pattern": "x", "models": [model | prices]}]
    asked = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(edition).encode())
            asked.set()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as published:
        thread = threading.Thread(target=published.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{published.server_port}/"
        settings = {"PRICES_REFRESH": 3600, "PRICES_URL": url}
        with running(tmp_path, **settings) as server, server.client() as client:
            assert asked.wait(60)
            body = client.get(f"{PROJECT}/prices/check/")
            wait_until(
                lambda: "refreshed" in client.get(f"{PROJECT}/prices/check/").json()["book"],
                what=body.text,
            )
            assert server.stop() == 0
        published.shutdown()
        thread.join()
