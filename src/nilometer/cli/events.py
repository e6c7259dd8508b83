"""`nilometer events`: list events, and show one."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from nilometer.cli.app import app
from nilometer.cli.client import (
    DEFAULT_URL,
    OWN_PROJECT,
    AsJson,
    Key,
    Project,
    Url,
    connected,
    segment,
    show_document,
)
from nilometer.cli.output import show_table, visible
from nilometer.domain import json_text

# A value longer than this is cut in the view for people; --json and the blob's URL have it all.
_SHOWN = 2000

events = typer.Typer(help="List events, and show one.", invoke_without_command=True)
app.add_typer(events, name="events")


@events.callback()
def list_events(
    ctx: typer.Context,
    event: Annotated[str | None, typer.Option(help="Its type, such as $ai_generation.")] = None,
    distinct_id: Annotated[str | None, typer.Option(help="The user.")] = None,
    trace: Annotated[str | None, typer.Option(help="The trace's id.")] = None,
    session: Annotated[str | None, typer.Option(help="The session's id.")] = None,
    after: Annotated[
        str | None, typer.Option(help="From this time on: 2025-07-01T11:00:00Z.")
    ] = None,
    before: Annotated[str | None, typer.Option(help="Up to this time.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="So many, the newest.")] = 50,
    url: Url = DEFAULT_URL,
    key: Key = None,
    project: Project = OWN_PROJECT,
    as_json: AsJson = False,
) -> None:
    """List events, newest first; `nilometer events show UUID` shows one."""
    if ctx.invoked_subcommand is not None:
        return
    filters = {
        "event": event,
        "distinct_id": distinct_id,
        "trace_id": trace,
        "session_id": session,
        "after": after,
        "before": before,
    }
    with connected(url, key) as client:
        found = client.pages(f"/api/projects/{project}/events/", filters, limit)
    if as_json:
        show_document(found.text())
        return
    columns = ("time", "event", "user", "model", "in", "out", "seconds", "error", "uuid")
    show_table(columns, (_row(value) for value in found.values()))


@events.command("show")
def show(
    uuid: Annotated[str, typer.Argument(help="As `nilometer events` lists it.")],
    hydrate: Annotated[
        bool, typer.Option("--hydrate", help="Put large values back in place of their URLs.")
    ] = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
    project: Project = OWN_PROJECT,
    as_json: AsJson = False,
) -> None:
    """Show one event with its properties."""
    with connected(url, key) as client:
        path = f"/api/projects/{project}/events/{segment(uuid)}/"
        text = client.get(path, {"hydrate": 1} if hydrate else None)
    if as_json:
        show_document(text)
        return
    members = json_text.members(text)
    properties = json_text.members(members.pop("properties"))
    blobs: list[dict[str, Any]] = json.loads(members.pop("blobs"))
    packed: list[dict[str, Any]] = json.loads(members.pop("packed", "[]"))
    missing = [value for value in packed if value["state"] != "inlined"]
    show_table(("event", ""), ((name, _value(value)) for name, value in members.items()))
    show_table(("property", "value"), ((name, _value(value)) for name, value in properties.items()))
    if blobs:
        show_table(("blob", "type", "bytes", "state"), (_blob_row(blob) for blob in blobs))
    if missing:
        columns = ("property", "bytes", "state")
        show_table(
            columns, ((value["property"], value["size"], value["state"]) for value in missing)
        )


def _row(event: dict[str, Any]) -> tuple[object, ...]:
    properties = event["properties"]
    return (
        event["timestamp"],
        event["event"],
        event["distinct_id"],
        properties.get("$ai_model"),
        properties.get("$ai_input_tokens"),
        properties.get("$ai_output_tokens"),
        properties.get("$ai_latency"),
        "error" if properties.get("$ai_is_error") in (True, "true") else "",
        event["uuid"],
    )


def _blob_row(blob: dict[str, Any]) -> tuple[object, ...]:
    state = blob.get("hydration") or ("expired" if blob["expired"] else "stored")
    return blob["name"], blob["content_type"], blob["size"], state


def _value(text: str) -> str:
    """A JSON text for people: strings without quotes, numbers with every digit they came with."""
    if text == "null":
        return ""
    value = visible(str(json.loads(text)) if text.startswith('"') else text)
    rest = len(value) - _SHOWN
    return value if rest <= 0 else f"{value[:_SHOWN]}… and {rest:,} characters more"
