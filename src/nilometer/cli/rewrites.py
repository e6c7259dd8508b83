"""`nilometer reprice`, `remap` and `rewrites`: go over what is stored again."""

from __future__ import annotations

import json
import sys
import time
from typing import Annotated, Any

import typer

from nilometer.cli.app import app
from nilometer.cli.client import (
    DEFAULT_URL,
    OWN_PROJECT,
    AsJson,
    Client,
    Key,
    Project,
    Url,
    connected,
    segment,
    show_document,
)
from nilometer.cli.output import show_table, visible
from nilometer.errors import NilometerError

_POLL_SECONDS = 0.2
_REPRICED = ("provider", "model", "changed", "newly_priced", "newly_unpriced", "before", "after")
_REMAPPED = ("table", "column", "rows")
_LISTED = ("id", "kind", "from", "to", "dry_run", "state", "total", "seen", "changed", "skipped")

From = Annotated[str, typer.Option("--from", help="A date, or a time with a zone.")]
To = Annotated[str | None, typer.Option("--to", help="Not included; now by default.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Print its id and do not wait for it.")]


class NotFinished(NilometerError):
    """A pass ended before its end."""

    code = "rewrite_not_finished"


@app.command("reprice")
def reprice(
    since: From,
    until: To = None,
    dry_run: DryRun = False,
    no_wait: NoWait = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
    project: Project = OWN_PROJECT,
    as_json: AsJson = False,
) -> None:
    """Price a project's calls again, by the prices of now.

    The server goes on when this command is stopped, and after a restart of its own.
    """
    body = {"kind": "reprice", "from": since, "to": until, "dry_run": dry_run}
    with connected(url, key) as client:
        _carry_out(client, project, body, no_wait=no_wait, as_json=as_json)


@app.command("remap")
def remap(
    since: From,
    until: To = None,
    dry_run: DryRun = False,
    no_wait: NoWait = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
    project: Project = OWN_PROJECT,
    as_json: AsJson = False,
) -> None:
    """Map a project's events again, by the converters of now.

    The server goes on when this command is stopped, and after a restart of its own.
    """
    body = {"kind": "remap", "from": since, "to": until, "dry_run": dry_run}
    with connected(url, key) as client:
        _carry_out(client, project, body, no_wait=no_wait, as_json=as_json)


@app.command("rewrites")
def rewrites(
    rewrite_id: Annotated[str | None, typer.Argument(metavar="[ID]")] = None,
    cancel: Annotated[bool, typer.Option("--cancel", help="End it; what it did stays.")] = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
    project: Project = OWN_PROJECT,
    as_json: AsJson = False,
) -> None:
    """List a project's passes over stored rows, show one, or cancel it."""
    if cancel and rewrite_id is None:
        raise typer.BadParameter("say which one to cancel")
    with connected(url, key) as client:
        path = _path(project) + (f"{segment(rewrite_id)}/" if rewrite_id else "")
        text = client.delete(path) if cancel else client.get(path)
    if as_json:
        show_document(text)
        return
    found = json.loads(text)
    if rewrite_id is not None:
        _show(found)
        return
    show_table(_LISTED, ([each[name] for name in _LISTED] for each in found["results"]))


def _carry_out(
    client: Client, project: str, body: dict[str, Any], *, no_wait: bool, as_json: bool
) -> None:
    text = client.post(_path(project), body)
    rewrite = json.loads(text)
    if no_wait:
        typer.echo(rewrite["id"])
        return
    while rewrite["finished_at"] is None:
        _tell_progress(rewrite)
        time.sleep(_POLL_SECONDS)
        text = client.get(f"{_path(project)}{rewrite['id']}/")
        rewrite = json.loads(text)
    if as_json:
        show_document(text)
    else:
        _show(rewrite)
    if rewrite["state"] != "done":
        reason = visible(rewrite["error"] or "nobody said why")
        raise NotFinished(f"the {rewrite['kind']} was {rewrite['state']}: {reason}")


def _show(rewrite: dict[str, Any]) -> None:
    columns = _REPRICED if rewrite["kind"] == "reprice" else _REMAPPED
    titles = [name.replace("_", " ") for name in columns]
    show_table(titles, ([each[name] for name in columns] for each in rewrite["findings"]))
    would = "would change" if rewrite["dry_run"] else "changed"
    typer.echo(f"{rewrite['changed']:,} of {rewrite['seen']:,} rows {would}.")
    if rewrite["skipped"]:
        typer.echo(f"{rewrite['skipped']:,} rows were left as they are.")
    if rewrite["state"] != "done":
        typer.echo(f"It is {rewrite['state']}.")


def _tell_progress(rewrite: dict[str, Any]) -> None:
    """On a terminal only, and beside the result."""
    if sys.stderr.isatty():
        total = rewrite["total"]
        share = f"{rewrite['seen']:,} of {total:,}" if total is not None else "waiting"
        typer.echo(f"\r{share} ", nl=False, err=True)


def _path(project: str) -> str:
    return f"/api/projects/{project}/rewrites/"
