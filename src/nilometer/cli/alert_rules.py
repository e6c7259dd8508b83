"""`nilometer alert-rules`: who is told of days that cost unusually much."""

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

rules = typer.Typer(no_args_is_help=True, help="Rules that tell of unusual spend.")
app.add_typer(rules, name="alert-rules")

_RULE = ("id", "name", "dimension", "value", "score", "min_percent", "min_amount_usd")
_DAY = ("day", "value", "spent_usd", "expected_usd", "score", "method", "fired_at")


@rules.command("list")
def list_rules(
    url: Url = DEFAULT_URL,
    key: Key = None,
    project: Project = OWN_PROJECT,
    as_json: AsJson = False,
) -> None:
    """List the rules."""
    with connected(url, key) as client:
        text = client.get(_path(project))
    _show(text, _RULE, as_json=as_json)


@rules.command("add")
def add(
    name: Annotated[str, typer.Argument(help="What you will know it by.")],
    dimension: Annotated[
        str, typer.Option(help="project, service, model, user, job or environment.")
    ] = "project",
    value: Annotated[str, typer.Option(help="Only this one; each of them by default.")] = "",
    score: Annotated[str | None, typer.Option(help="So many times the usual noise.")] = None,
    min_percent: Annotated[str | None, typer.Option(help="Above what is expected.")] = None,
    min_amount: Annotated[str | None, typer.Option(help="Above it, in US dollars.")] = None,
    channel: Annotated[
        list[str] | None, typer.Option(help="A channel's id. Repeat for several; all.")
    ] = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    project: Project = OWN_PROJECT,
    as_json: AsJson = False,
) -> None:
    """Add a rule."""
    given: dict[str, Any] = {
        "score": score,
        "min_percent": min_percent,
        "min_amount_usd": min_amount,
        "channels": channel or None,
    }
    body = {name: value for name, value in given.items() if value is not None}
    body |= {"name": name, "dimension": dimension, "value": value}
    with connected(url, key) as client:
        text = client.post(_path(project), body)
    if as_json:
        show_document(text)
    else:
        typer.echo(f"Added the rule {visible(name)}.")


@rules.command("remove")
def remove(
    rule: Annotated[str, typer.Argument(help="Its id.")],
    url: Url = DEFAULT_URL,
    key: Key = None,
    project: Project = OWN_PROJECT,
) -> None:
    """Remove a rule and what it told of."""
    with connected(url, key) as client:
        client.delete(f"{_path(project)}{segment(rule)}/")
    typer.echo("Removed the rule.")


@rules.command("days")
def days(
    url: Url = DEFAULT_URL,
    key: Key = None,
    project: Project = OWN_PROJECT,
    as_json: AsJson = False,
) -> None:
    """List the days that were told of, newest first."""
    with connected(url, key) as client:
        text = client.get(f"/api/projects/{project}/unusual_days/")
    _show(text, _DAY, as_json=as_json)


def _path(project: str) -> str:
    return f"/api/projects/{project}/alert_rules/"


def _show(text: str, columns: tuple[str, ...], *, as_json: bool) -> None:
    if as_json:
        show_document(text)
        return
    found = json.loads(text)["results"]
    show_table(columns, ([each[name] for name in columns] for each in found))
