"""`nilometer alert-rules`: what is looked for, and what broke and fired."""

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

rules = typer.Typer(
    no_args_is_help=True, help="What is looked for in calls and in Nilometer itself."
)
app.add_typer(rules, name="alert-rules")

_RULE = ("id", "name", "kind", "dimension", "value", "threshold", "score", "raise_exception")
_ALERT = ("state", "rule", "subject", "measured", "broken_at", "fired_at", "recovered_at")
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
    kind: Annotated[
        str, typer.Option(help="What is measured: error_rate, spend …; docs/alerts.md has all.")
    ] = "spend_unusual",
    dimension: Annotated[
        str, typer.Option(help="project, service, model, user, job or environment.")
    ] = "project",
    value: Annotated[str, typer.Option(help="Only this one; each of them by default.")] = "",
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="DIMENSION=VALUE", help="Only calls that have it. Repeat."),
    ] = None,
    threshold: Annotated[
        str | None, typer.Option(help="Where it fires. [default: its kind's]")
    ] = None,
    window: Annotated[int | None, typer.Option(help="Seconds that are measured.")] = None,
    min_calls: Annotated[int | None, typer.Option(help="Fewer say nothing.")] = None,
    hold: Annotated[
        int | None, typer.Option("--for", help="Seconds for which it must hold. [default: 0]")
    ] = None,
    cooldown: Annotated[
        int | None, typer.Option(help="Seconds in which it does not fire again. [default: 0]")
    ] = None,
    raise_exception: Annotated[
        bool, typer.Option("--raise-exception", help="Raise an exception when it fires.")
    ] = False,
    exception_type: Annotated[str | None, typer.Option(help="[default: its kind's]")] = None,
    severity: Annotated[
        str | None, typer.Option(help="low, medium, high or critical. [default: its kind's]")
    ] = None,
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
        "kind": kind,
        "threshold": threshold,
        "window_seconds": window,
        "min_calls": min_calls,
        "for_seconds": hold,
        "cooldown_seconds": cooldown,
        "raise_exception": raise_exception or None,
        "exception_type": exception_type,
        "severity": severity,
        "filters": _filters(where or []) or None,
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


@rules.command("alerts")
def alerts(
    url: Url = DEFAULT_URL,
    key: Key = None,
    project: Project = OWN_PROJECT,
    as_json: AsJson = False,
) -> None:
    """List what is broken, and what was and fired, newest first."""
    with connected(url, key) as client:
        text = client.get(f"/api/projects/{project}/alerts/")
        named = json.loads(client.get(_path(project)))["results"]
    if as_json:
        show_document(text)
        return
    names = {each["id"]: each["name"] for each in named}
    found = [each | {"rule": names.get(each["rule_id"])} for each in json.loads(text)["results"]]
    show_table(_ALERT, ([each[name] for name in _ALERT] for each in found))


@rules.command("days")
def days(
    url: Url = DEFAULT_URL,
    key: Key = None,
    project: Project = OWN_PROJECT,
    as_json: AsJson = False,
) -> None:
    """List the unusual days that were told of, newest first."""
    with connected(url, key) as client:
        text = client.get(f"/api/projects/{project}/unusual_days/")
    _show(text, _DAY, as_json=as_json)


def _filters(given: list[str]) -> dict[str, str]:
    if wrong := [each for each in given if "=" not in each]:
        raise typer.BadParameter(f"--where is DIMENSION=VALUE, not {visible(wrong[0])}")
    return dict(each.split("=", 1) for each in given)


def _path(project: str) -> str:
    return f"/api/projects/{project}/alert_rules/"


def _show(text: str, columns: tuple[str, ...], *, as_json: bool) -> None:
    if as_json:
        show_document(text)
        return
    found = json.loads(text)["results"]
    show_table(columns, ([each[name] for name in columns] for each in found))
