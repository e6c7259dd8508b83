"""`nilometer traces`: the traces of a server, listed; and trace files, read without one."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from nilometer.cli import traces_ingest, traces_letters, traces_store
from nilometer.cli.app import app
from nilometer.cli.client import (
    DEFAULT_URL,
    OWN_PROJECT,
    AsJson,
    Key,
    Project,
    Url,
    connected,
    show_document,
)
from nilometer.cli.output import show_table

traces = typer.Typer(invoke_without_command=True)
app.add_typer(
    traces,
    name="traces",
    help="List a server's traces; or read trace files into a database of one's own.",
)
traces.command("ingest")(traces_ingest.ingest)
traces.command("report")(traces_store.report)
traces.command("show")(traces_store.show)
traces.command("export")(traces_store.export)
traces.command("verify")(traces_store.verify)
traces.add_typer(traces_letters.letters, name="dead-letters")


@traces.callback()
def list_traces(
    ctx: typer.Context,
    distinct_id: Annotated[str | None, typer.Option(help="With an event of this user.")] = None,
    session: Annotated[str | None, typer.Option(help="With an event of this session.")] = None,
    errors: Annotated[bool, typer.Option("--errors", help="Only those with an error.")] = False,
    after: Annotated[
        str | None, typer.Option(help="Started from this time on: 2025-07-01T11:00:00Z.")
    ] = None,
    before: Annotated[str | None, typer.Option(help="Started before this time.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="So many, the latest.")] = 50,
    url: Url = DEFAULT_URL,
    key: Key = None,
    project: Project = OWN_PROJECT,
    as_json: AsJson = False,
) -> None:
    """Without a command: list a server's traces, the latest started first. The commands work on
    trace files and a database of one's own, and need no server."""
    if ctx.invoked_subcommand is not None:
        return
    filters = {
        "distinct_id": distinct_id,
        "session_id": session,
        "errors": True if errors else None,
        "after": after,
        "before": before,
    }
    with connected(url, key) as client:
        found = client.pages(f"/api/projects/{project}/traces/", filters, limit)
    if as_json:
        show_document(found.text())
        return
    columns = ("start", "name", "user", "seconds", "events", "errors", "in", "out", "models", "id")
    show_table(columns, (_row(trace) for trace in found.values()))


def _row(trace: dict[str, Any]) -> tuple[object, ...]:
    return (
        trace["start"],
        trace["name"],
        trace["distinct_id"],
        f"{trace['duration']:.2f}",
        trace["event_count"],
        trace["error_count"] or "",
        trace["input_tokens"],
        trace["output_tokens"],
        ", ".join(trace["models"]),
        trace["trace_id"],
    )
