"""`nilometer log`: how far the readers of the log are behind."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from nilometer.cli.app import app
from nilometer.cli.client import DEFAULT_URL, AsJson, Key, Url, connected, show_document
from nilometer.cli.output import show_table, visible

log = typer.Typer(no_args_is_help=True, help="The log between capture and the store.")
app.add_typer(log, name="log")


@log.command("lag")
def lag(
    url: Url = DEFAULT_URL,
    key: Key = None,
    partitions: Annotated[
        bool, typer.Option("--partitions", help="Also each partition that is behind, on Kafka.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show how far each group of readers is behind, and whether the pipeline runs."""
    with connected(url, key) as client:
        text = client.get("/api/log/")
    if as_json:
        show_document(text)
        return
    state: dict[str, Any] = json.loads(text)
    exceptions: dict[str, Any] = state.get("exceptions") or {"groups": {}}
    of_exceptions = {f"exceptions.{name}": lag for name, lag in exceptions["groups"].items()}
    groups: dict[str, Any] = state["groups"] | of_exceptions
    rows = [
        (name, group["records"], _seconds(group["seconds"]), group["oldest_at"])
        for name, group in groups.items()
    ]
    show_table(("group", "records behind", "seconds behind", "oldest"), rows)
    if partitions:
        _show_partitions(groups)
    size = "" if state["bytes"] is None else f" in {state['bytes']:,} bytes"
    typer.echo(f"The log keeps {state['records']:,} records{size}.")
    if not state["ready"]:
        typer.echo(f"It takes no more: {visible(state['reason'])}")
    if not exceptions.get("ready", True):
        typer.echo(f"The log of exceptions takes no more: {visible(exceptions['reason'])}")
    _tell_pipeline(state["pipeline"])


@log.command("resume")
def resume(url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """Let a pipeline go on that stopped because too many records failed."""
    with connected(url, key) as client:
        text = client.post("/api/pipeline/resume/")
    if as_json:
        show_document(text)
        return
    _tell_pipeline(json.loads(text))


def _seconds(seconds: float | None) -> str:
    return "unknown" if seconds is None else f"{seconds:.1f}"


def _show_partitions(groups: dict[str, Any]) -> None:
    rows = [
        (name, partition, records)
        for name, group in groups.items()
        for partition, records in group["partitions"].items()
    ]
    if rows:
        show_table(("group", "partition", "records behind"), rows)
    else:
        typer.echo("No partition is behind.")


def _tell_pipeline(pipeline: dict[str, Any] | None) -> None:
    if pipeline is None:
        typer.echo("No pipeline runs in that process.")
    elif pipeline["running"]:
        typer.echo("The pipeline runs.")
    else:
        typer.echo(f"The pipeline waits ({pipeline['reason']}): {visible(pipeline['detail'])}")
