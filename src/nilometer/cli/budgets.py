"""`nilometer budgets`: what may be spent, what is, and which thresholds fired."""

from __future__ import annotations

import json
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
from nilometer.cli.output import show_table
from nilometer.errors import NotFound

budgets = typer.Typer(no_args_is_help=True, help="What may be spent, and what is.")
app.add_typer(budgets, name="budgets")

Named = Annotated[str, typer.Argument(metavar="NAME", help="The budget's name, or its id.")]
_COLUMNS = ("name", "scope", "period", "spent", "limit", "%", "forecast", "unpriced", "state")
_ALERT_COLUMNS = ("fired", "budget", "period", "threshold", "spent", "limit", "unpriced")


@budgets.command("list")
def list_budgets(
    url: Url = DEFAULT_URL,
    key: Key = None,
    project: Project = OWN_PROJECT,
    as_json: AsJson = False,
) -> None:
    """List the budgets and how they stand, in US dollars."""
    with connected(url, key) as client:
        text = client.get(_path(project))
    if as_json:
        show_document(text)
        return
    show_table(_COLUMNS, (_row(each) for each in json.loads(text)["results"]))


@budgets.command("set")
def set_budget(
    name: Annotated[str, typer.Argument(help="What you will know it by.")],
    amount: Annotated[str | None, typer.Option(help="US dollars for each period.")] = None,
    period: Annotated[
        str | None, typer.Option(help="day, week, month, quarter or year; for a new one.")
    ] = None,
    scope: Annotated[
        str | None,
        typer.Option(
            metavar="KIND[=VALUE]",
            help="global, project, service=, model=, user=, job= or environment=; for a new one.",
        ),
    ] = None,
    zone: Annotated[
        str | None, typer.Option(help="Such as Europe/Berlin; for a new one. [default: UTC]")
    ] = None,
    threshold: Annotated[
        list[int] | None, typer.Option(metavar="PERCENT", help="Repeat. [default: 50, 80, 100]")
    ] = None,
    rollover: Annotated[
        str | None,
        typer.Option(metavar="CAP", help="Dollars of what is unspent that carry over; or off."),
    ] = None,
    hard_stop: Annotated[
        bool | None, typer.Option("--hard-stop/--no-hard-stop", help="Say no at the limit.")
    ] = None,
    raise_exception: Annotated[
        bool | None,
        typer.Option(
            "--raise-exception/--no-raise-exception", help="Raise one when a threshold fires."
        ),
    ] = None,
    channel: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="Tell this channel, or all. Repeat. [default: all]"),
    ] = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    project: Project = OWN_PROJECT,
    as_json: AsJson = False,
) -> None:
    """Make the budget of this name, or change what is given of it."""
    changes: dict[str, Any] = {
        "amount_usd": amount,
        "thresholds": sorted(threshold) if threshold else None,
        "hard_stop": hard_stop,
        "raise_exception": raise_exception,
    }
    body = {field: value for field, value in changes.items() if value is not None}
    if rollover is not None:
        body["rollover_cap_usd"] = None if rollover == "off" else rollover
    if channel is not None:
        body["channels"] = None if channel == ["all"] else channel
    with connected(url, key) as client:
        found = _find(client, project, name)
        if found is None:
            text = client.post(
                _path(project), {"name": name, **_lasting(scope, period, zone), **body}
            )
        else:
            _refuse_lasting(scope, period, zone)
            text = client.patch(_path(project, found["id"]), body)
    if as_json:
        show_document(text)
    else:
        typer.echo(f"{'Changed' if found else 'Made'} {json.loads(text)['id']}.")


@budgets.command("show")
def show(
    name: Named,
    url: Url = DEFAULT_URL,
    key: Key = None,
    project: Project = OWN_PROJECT,
    as_json: AsJson = False,
) -> None:
    """Show one budget and how it stands."""
    with connected(url, key) as client:
        text = client.get(_path(project, _known(client, project, name)))
    if as_json:
        show_document(text)
        return
    told = json.loads(text)
    status = told.pop("status")
    forecast = status.pop("forecast")
    show_table(("budget", ""), told.items())
    show_table(("now", ""), [*status.items(), *((f"forecast {k}", v) for k, v in forecast.items())])


@budgets.command("check")
def check(
    service: Annotated[str | None, typer.Option(help="Of the call.")] = None,
    model: Annotated[str | None, typer.Option()] = None,
    user: Annotated[str | None, typer.Option()] = None,
    job: Annotated[str | None, typer.Option()] = None,
    environment: Annotated[str | None, typer.Option()] = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    project: Project = OWN_PROJECT,
    as_json: AsJson = False,
) -> None:
    """Ask whether a call may be made. Exits with 3 when it may not."""
    given = {
        "service": service,
        "model": model,
        "user": user,
        "job": job,
        "environment": environment,
    }
    subject = {kind: value for kind, value in given.items() if value is not None}
    with connected(url, key) as client:
        text = client.post(_path(project, "check"), subject)
    said = json.loads(text)
    if as_json:
        show_document(text)
    else:
        typer.echo("Allowed." if said["allowed"] else "Stopped.")
        columns = ("name", "scope", "period", "spent", "limit", "%", "exceeded")
        show_table(columns, (_checked(each) for each in said["budgets"]))
    if not said["allowed"]:
        raise typer.Exit(3)


@budgets.command("delete")
def delete(
    name: Named, url: Url = DEFAULT_URL, key: Key = None, project: Project = OWN_PROJECT
) -> None:
    """Delete a budget and its alerts."""
    with connected(url, key) as client:
        client.delete(_path(project, _known(client, project, name)))
    typer.echo("Deleted.")


@budgets.command("alerts")
def alerts(
    budget: Annotated[str | None, typer.Option(metavar="NAME", help="Only of this one.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500)] = 100,
    url: Url = DEFAULT_URL,
    key: Key = None,
    project: Project = OWN_PROJECT,
    as_json: AsJson = False,
) -> None:
    """List the thresholds that fired, newest first."""
    with connected(url, key) as client:
        parameters: dict[str, Any] = {"limit": limit}
        if budget is not None:
            parameters["budget_id"] = _known(client, project, budget)
        text = client.get(f"/api/projects/{project}/budget_alerts/", parameters)
        if as_json:
            show_document(text)
            return
        names = {each["id"]: each["name"] for each in _all(client, project)}
    show_table(_ALERT_COLUMNS, (_alert(each, names) for each in json.loads(text)["results"]))


def _path(project: str, one: str = "") -> str:
    path = f"/api/projects/{project}/budgets/"
    return f"{path}{segment(one)}/" if one else path


def _all(client: Client, project: str) -> list[dict[str, Any]]:
    return json.loads(client.get(_path(project)))["results"]


def _find(client: Client, project: str, name: str) -> dict[str, Any] | None:
    found = [each for each in _all(client, project) if name in (each["name"], each["id"])]
    return found[0] if found else None


def _known(client: Client, project: str, name: str) -> str:
    found = _find(client, project, name)
    if found is None:
        raise NotFound("there is no budget of this name; `nilometer budgets list` has them")
    return found["id"]


def _lasting(scope: str | None, period: str | None, zone: str | None) -> dict[str, str]:
    kind, _, value = (scope or "project").partition("=")
    return {"scope": kind, "value": value, "period": period or "month", "time_zone": zone or "UTC"}


def _refuse_lasting(*given: str | None) -> None:
    if any(each is not None for each in given):
        raise typer.BadParameter(
            "the scope, period and zone of a budget stay; make another under another name"
        )


def _row(told: dict[str, Any]) -> tuple[Any, ...]:
    status = told["status"]
    return (
        told["name"],
        _scope(told),
        status["period"],
        *(status[name] for name in ("spent_usd", "limit_usd", "percent")),
        status["forecast"]["cost_usd"],
        status["unpriced_count"],
        "stopped" if status["stopped"] else ", ".join(f"{each}%" for each in status["reached"]),
    )


def _checked(told: dict[str, Any]) -> tuple[Any, ...]:
    names = ("period", "spent_usd", "limit_usd", "percent")
    return (
        told["name"],
        _scope(told),
        *(told[name] for name in names),
        "yes" if told["exceeded"] else "no",
    )


def _alert(told: dict[str, Any], names: dict[str, str]) -> tuple[Any, ...]:
    return (
        told["fired_at"],
        names.get(told["budget_id"], told["budget_id"]),
        told["period"],
        f"{told['threshold']}%",
        *(told[name] for name in ("spent_usd", "limit_usd", "unpriced_count")),
    )


def _scope(told: dict[str, Any]) -> str:
    return f"{told['scope']}={told['value']}" if told["value"] else told["scope"]
