"""The second half of `make run`: the sample traffic breaks a budget, and Nilometer acts.

The budget is of this run's traffic alone. It raises an exception, which the pack `llm-operations`
handles: a webhook of this very process is called, and from then on the check says no to such calls.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

PACK = "llm-operations"
TOOL = "incident-webhook"
NAME = "make run"
"""Of the budget and of the channel."""
AMOUNT_USD = "0.02"
"""Less than one question of the sample traffic costs."""

Json = dict[str, Any]
Until = Callable[[Callable[[], Json | None]], Json]
"""Waits until it is given something, and gives it."""


@dataclass
class Webhook:
    """A receiver on loopback, and how often the tool of the playbook called it; notifications come
    beside that."""

    url: str = ""
    calls: int = 0


@contextmanager
def webhook() -> Generator[Webhook]:
    """A receiver for the length of the block, on a free port."""
    made = Webhook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            made.calls += int(self.path == _CALLS)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """It is shown below."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    made.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()


def prepare(client: httpx.Client, project: int, job: str, url: str) -> str:
    """Have a budget for the calls of this job, and have it handled when it is spent; its id."""
    base = f"/api/projects/{project}"
    pack = _answer(client.post(f"{base}/packs/", json={"built_in": PACK}))
    if pack["state"] != "active":
        _answer(client.post(f"{base}/packs/{PACK}/{pack['version']}/activate/"))
    tool = {"kind": "webhook", "config": {"url": url + _CALLS}}
    _replace(client, f"{base}/tools/", TOOL, tool)
    told = {"kind": "webhook", "config": {"url": url + _NOTIFICATIONS}}
    _replace(client, f"{base}/notification_channels/", NAME, told)
    budget = {"scope": "job", "value": job, "amount_usd": AMOUNT_USD, "period": "year"}
    more = {"thresholds": [100], "raise_exception": True}
    return _replace(client, f"{base}/budgets/", NAME, budget | more)["id"]


def show(
    console: Console,
    client: httpx.Client,
    until: Until,
    budget: str,
    job: str,
    webhook: Webhook,
) -> None:
    """Wait for the exception of this budget to be handled, and tell how."""

    def handled() -> Json | None:
        for each in _answer(client.get("/exceptions/@current/?limit=20"))["results"]:
            if each["entity"] == budget and each["status"] not in _UNDER_WAY:
                return each
        return None

    exception = until(handled)["exceptionId"]
    found = _answer(client.get(f"/exceptions/@current/{exception}/"))
    console.print(f"\nThe traffic broke its budget of {AMOUNT_USD} USD. Exception {exception}:")
    console.print(_timeline(found["events"]))
    times = "once" if webhook.calls == 1 else f"{webhook.calls} times"
    console.print(f"The webhook was called {times}.")
    check = "/api/projects/@current/budgets/check/"
    allowed = _answer(client.post(check, json={"job": job}))["allowed"]
    console.print(f"May a call of this job be made now? {'yes' if allowed else 'no'}\n")


_CALLS, _NOTIFICATIONS = "/incidents", "/notifications"
_UNDER_WAY = frozenset({"received", "open", "triaged", "in_progress"})


def _timeline(events: list[Json]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    for each in events:
        table.add_row(str(each["sequence"]), each["type"], each["summary"])
    return table


def _replace(client: httpx.Client, path: str, name: str, body: Mapping[str, Any]) -> Json:
    """Make it anew: of the run before it may be there."""
    for each in _answer(client.get(path))["results"]:
        if each["name"] == name and not each.get("built_in"):
            client.delete(f"{path}{each.get('id') or name}/").raise_for_status()
    return _answer(client.post(path, json={"name": name, **body}))


def _answer(answer: httpx.Response) -> Any:
    answer.raise_for_status()
    return answer.json()
