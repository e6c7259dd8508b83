"""`nilometer tools`: what playbooks can do, tried without doing it, and what they did."""

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
from nilometer.errors import InvalidInput

tools = typer.Typer(no_args_is_help=True, help="What playbooks can do, and what they did.")
app.add_typer(tools, name="tools")

Name = Annotated[str, typer.Argument(help="The tool's name.")]

_TOOL = ("name", "kind", "enabled", "breaker", "description")
_EXECUTION = ("id", "tool", "state", "attempts", "incident_id", "error_code", "began_at")


@tools.command("list")
def list_tools(
    url: Url = DEFAULT_URL,
    key: Key = None,
    project: Project = OWN_PROJECT,
    as_json: AsJson = False,
) -> None:
    """List the tools of the project, Nilometer's own included."""
    with connected(url, key) as client:
        text = client.get(_path(project))
    if as_json:
        show_document(text)
        return
    found = [each | {"breaker": each["breaker"]["state"]} for each in json.loads(text)["results"]]
    show_table(_TOOL, ([each[name] for name in _TOOL] for each in found))


@tools.command("show")
def show(
    tool: Name, url: Url = DEFAULT_URL, key: Key = None, project: Project = OWN_PROJECT
) -> None:
    """Show one, without its secrets, and how its breaker stands."""
    with connected(url, key) as client:
        show_document(client.get(_path(project, tool)))


@tools.command("enable")
def enable(
    tool: Name, url: Url = DEFAULT_URL, key: Key = None, project: Project = OWN_PROJECT
) -> None:
    """Let playbooks call it."""
    _switch(tool, url, key, project, enabled=True)


@tools.command("disable")
def disable(
    tool: Name, url: Url = DEFAULT_URL, key: Key = None, project: Project = OWN_PROJECT
) -> None:
    """Let no playbook call it; a step that would fails."""
    _switch(tool, url, key, project, enabled=False)


@tools.command("dry-run")
def dry_run(
    tool: Name,
    given: Annotated[str, typer.Option("--input", help="A JSON object.")] = "{}",
    url: Url = DEFAULT_URL,
    key: Key = None,
    project: Project = OWN_PROJECT,
) -> None:
    """Tell what would be sent or changed, and do nothing."""
    try:
        body: Any = {"input": json.loads(given)}
    except ValueError:
        raise InvalidInput("--input is a JSON object") from None
    with connected(url, key) as client:
        show_document(client.post(f"{_path(project, tool)}dry_run/", body))


@tools.command("executions")
def executions(
    tool: Annotated[str, typer.Option(help="Of this tool alone.")] = "",
    incident: Annotated[str, typer.Option(help="For this exception alone.")] = "",
    state: Annotated[str, typer.Option(help="running, succeeded, failed or unknown.")] = "",
    url: Url = DEFAULT_URL,
    key: Key = None,
    project: Project = OWN_PROJECT,
    as_json: AsJson = False,
) -> None:
    """List what was executed, newest first."""
    wanted = {"tool": tool, "incident": incident, "state": state}
    given = {name: value for name, value in wanted.items() if value}
    with connected(url, key) as client:
        text = client.get(f"/api/projects/{project}/tool_executions/", given)
    if as_json:
        show_document(text)
        return
    found = json.loads(text)["results"]
    show_table(_EXECUTION, ([each[name] for name in _EXECUTION] for each in found))


def _switch(tool: str, url: str, key: str | None, project: str, *, enabled: bool) -> None:
    with connected(url, key) as client:
        client.patch(_path(project, tool), {"enabled": enabled})
    typer.echo(f"{'Enabled' if enabled else 'Disabled'} the tool {visible(tool)}.")


def _path(project: str, tool: str | None = None) -> str:
    rest = "" if tool is None else f"{segment(tool)}/"
    return f"/api/projects/{project}/tools/{rest}"
