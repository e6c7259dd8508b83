"""`nilometer demo`: what `make run` shows. A server, a little traffic, and where to look."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, TypeVar

import httpx
import typer
from rich.console import Console
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from nilometer.cli import demo_incident
from nilometer.cli.app import app
from nilometer.cli.sample_traffic import SampleEvent, support_question
from nilometer.domain import clock
from nilometer.errors import Unavailable

T = TypeVar("T")

PROJECT = 1


@app.command()
def demo(
    data_dir: Annotated[Path, typer.Option(help="Where everything is kept.")] = Path("data"),
    port: Annotated[
        int,
        typer.Option(envvar="NILOMETER_PORT", help="Port to listen on; 0 takes a free one."),
    ] = 8000,
) -> None:
    """Run Nilometer with sample traffic, and print where to look. Ctrl-C stops it."""
    console = Console(highlight=False)
    console.print("Starting Nilometer ...")
    with demo_incident.webhook() as webhook, _server(data_dir, port) as process:
        url, issued = _started(process)
        keys = issued or _new_keys(data_dir)
        with httpx.Client(base_url=url, timeout=60) as client:
            _show(console, client, url, keys, webhook)
        console.print("Running. Ctrl-C stops it; `make run` finds this data again.", style="bold")
        code = process.wait()
    raise typer.Exit(code)


@contextmanager
def _server(data_dir: Path, port: int) -> Generator[subprocess.Popen[str]]:
    """`nilometer serve` as a child; it has Ctrl-C from the terminal as we have, so we only wait."""
    arguments = ["--port", str(port), "--data-dir", str(data_dir)]
    process = subprocess.Popen(  # noqa: S603  (this very program)
        [sys.executable, "-m", "nilometer", "serve", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={
            "NILOMETER_LOG_LEVEL": "warning",
            # The webhook that is shown is of this machine.
            "NILOMETER_NOTIFICATION_NETWORKS": "127.0.0.0/8",
        }
        | os.environ,
    )

    def stop(number: int, _frame: object) -> None:
        if number == signal.SIGTERM:
            process.terminate()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()


def _started(process: subprocess.Popen[str]) -> tuple[str, list[str]]:
    """The server's URL, and the keys that it prints on a first start."""
    assert process.stdout is not None
    issued: list[str] = []
    for line in process.stdout:
        issued += re.findall(r"nlm_(?:proj|user)_\S+", line)
        if match := re.search(r"listens on (http://\S+)", line):
            return match[1], issued
    raise typer.Exit(process.wait() or 1)  # it has said why on standard error


def _new_keys(data_dir: Path) -> list[str]:
    """A project key and a personal key for this run, made in the database beside the server; those
    of the run before end with it. Keys are stored hashed: none can be printed a second time.
    """
    from nilometer.access.accounts import Accounts
    from nilometer.access.types import ALL_SCOPES, KeyKind, Scope
    from nilometer.database.engine import Database
    from nilometer.settings import load

    with closing(Database(load(data_dir=data_dir).effective_database_url)) as database:
        accounts = Accounts(database)
        return [
            accounts.keys.rotate_named(
                kind=kind, project_id=PROJECT, name="make run", scopes=scopes
            ).token
            for kind, scopes in (
                (KeyKind.PROJECT, [Scope.CAPTURE]),
                (KeyKind.PERSONAL, sorted(ALL_SCOPES)),
            )
        ]


def _show(
    console: Console,
    client: httpx.Client,
    url: str,
    keys: list[str],
    webhook: demo_incident.Webhook,
) -> None:
    from nilometer.cli.trace import trace_tree

    project_key, personal_key = keys
    client.headers["Authorization"] = f"Bearer {personal_key}"
    _until(lambda: client.get("/_readiness", params={"role": "api"}).status_code == 200)
    earlier = _count(client)
    if earlier:
        console.print(f"Found {earlier} events from earlier runs.")
    trace_id, events = support_question(clock.now() - timedelta(minutes=2))
    budget = demo_incident.prepare(client, PROJECT, trace_id, webhook.url)
    _send(console, url, project_key, events)
    trace = _until(lambda: _whole_trace(client, trace_id, len(events)))
    console.print(trace_tree(trace))
    console.print(_blob_line(client, events), soft_wrap=True)
    demo_incident.show(console, client, _until, budget, trace_id, webhook)
    facts = f"URL           {url}\nAPI           {url}/docs\nproject key   {project_key}\n"
    console.print(Panel(f"{facts}personal key  {personal_key}", title="Nilometer", expand=False))
    for line in (
        f"export NILOMETER_URL={url} NILOMETER_API_KEY={personal_key}",
        ".venv/bin/nilometer events",
        ".venv/bin/nilometer exceptions list",
        f".venv/bin/nilometer trace {trace_id}",
    ):
        console.print(f"  {line}", soft_wrap=True)


def _send(console: Console, url: str, key: str, events: list[SampleEvent]) -> None:
    columns = (TextColumn("Sending sample traffic"), BarColumn(), MofNCompleteColumn())
    headers = {"Authorization": f"Bearer {key}"}
    with Progress(*columns, console=console) as progress, httpx.Client(timeout=60) as client:
        for event in progress.track(events):
            answer = client.post(f"{url}/i/v0/ai", files=event.multipart(), headers=headers)
            if not answer.is_success:
                raise Unavailable(f"The sample event was refused: {answer.text}")


def _whole_trace(client: httpx.Client, trace_id: str, events: int) -> dict[str, Any] | None:
    answer = client.get(f"/api/projects/{PROJECT}/traces/{trace_id}/")
    trace: dict[str, Any] = answer.json() if answer.is_success else {}
    return trace if trace.get("event_count") == events else None


def _count(client: httpx.Client) -> int:
    path, count = f"/api/projects/{PROJECT}/events/?limit=500", 0
    while path:
        page = client.get(path).raise_for_status().json()
        count, path = count + len(page["results"]), page["next"]
    return count


def _blob_line(client: httpx.Client, events: list[SampleEvent]) -> str:
    """Fetch the largest blob back and compare it with what was sent."""
    event = max(events, key=lambda event: sum(len(body) for _, body in event.blobs.values()))
    name, (_, sent) = next(iter(event.blobs.items()))
    stored = client.get(f"/api/projects/{PROJECT}/events/{event.uuid}/").raise_for_status().json()
    blob_url = stored["properties"][name]
    answer = client.get(f"/api/projects/{PROJECT}/blobs/", params={"url": blob_url})
    body = answer.raise_for_status().content
    verdict = "identical to what was sent" if body == sent else "NOT what was sent"
    return f"Blob {name} of {event.uuid}: {len(body):,} bytes fetched back, {verdict}\n  {blob_url}"


def _until(condition: Callable[[], T | None], seconds: float = 60) -> T:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise Unavailable("The server did not come up in a minute; its log is above.")
        time.sleep(0.05)
    return value
