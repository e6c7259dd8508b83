"""`nilometer prices`: what a model costs, which models have no price, and prices of one's own."""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

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
from nilometer.cli.output import show_json, show_table, visible
from nilometer.errors import NotFound

if TYPE_CHECKING:
    from nilometer.pricing.plans import Quote

prices = typer.Typer(no_args_is_help=True, help="What models cost, and prices of your own.")
override = typer.Typer(no_args_is_help=True, help="Prices of your own: add, list, remove.")
app.add_typer(prices, name="prices")
prices.add_typer(override, name="override")

_CHECKED = ("provider", "model", "events", "last_seen", "reason")
Everyone = Annotated[bool, typer.Option("--all-projects", help="The operator's, for all projects.")]


@prices.command("show")
def show(
    model: Annotated[str, typer.Argument(help="As your clients send it.")],
    provider: Annotated[str | None, typer.Option(help="As your clients send it.")] = None,
    at: Annotated[str | None, typer.Option(help="A date or a time with a zone; now.")] = None,
    tier: Annotated[str, typer.Option(help="standard, batch, flex, priority or fast.")] = "",
    as_json: AsJson = False,
) -> None:
    """Show what a model costs, by the price book and NILOMETER_PRICES_FILE. Asks no server."""
    from nilometer.domain import clock
    from nilometer.pricing.book import current
    from nilometer.pricing.files import load, moment
    from nilometer.pricing.overrides import Overrides
    from nilometer.pricing.plans import make_plan
    from nilometer.settings import load as settings

    file = settings().prices_file
    overrides = Overrides(load(file) if file else ()).for_project(0)
    when = moment(at, "at") if at else clock.now()
    quote = make_plan(current(), overrides, provider, model, tier, "").at(when)
    if quote.rates is None:
        near = current().nearest(quote.provider, model.lower())
        hint = f"; the nearest known names are {', '.join(near)}" if near else ""
        raise NotFound(f"{visible(model)} has no price ({quote.reason}){hint}")
    document = _document(quote, when)
    if as_json:
        show_json(document)
        return
    rows = document.pop("prices")
    show_table(("price of", ""), document.items())
    show_table(("what", "input above", "dollars", "for"), rows)


@prices.command("check")
def check(
    days: Annotated[int, typer.Option(min=1, help="Look at so many days.")] = 30,
    url: Url = DEFAULT_URL,
    key: Key = None,
    project: Project = OWN_PROJECT,
    as_json: AsJson = False,
) -> None:
    """List the models called that have no price or are deprecated, with the nearest names."""
    with connected(url, key) as client:
        text = client.get(f"/api/projects/{project}/prices/check/", {"days": days})
    if as_json:
        show_document(text)
        return
    columns = ("provider", "model", "events", "last seen", "reason", "nearest")
    show_table(
        columns,
        (
            (*(each[name] for name in _CHECKED), ", ".join(each["nearest"]))
            for each in json.loads(text)["results"]
        ),
    )


@override.command("add")
def add(
    provider: Annotated[str, typer.Argument(help="As your clients send it.")],
    model: Annotated[str, typer.Argument(help="As your clients send it.")],
    start: Annotated[str, typer.Option("--from", help="A date, or a time with a zone.")],
    end: Annotated[str | None, typer.Option("--to", help="Not included.")] = None,
    tokens: Annotated[
        list[str] | None,
        typer.Option(metavar="BUCKET=DOLLARS", help="For a million tokens. Repeat."),
    ] = None,
    unit: Annotated[
        list[str] | None, typer.Option(metavar="UNIT=DOLLARS", help="For one unit. Repeat.")
    ] = None,
    alias: Annotated[str | None, typer.Option(metavar="PROVIDER/MODEL")] = None,
    tier: Annotated[str, typer.Option(help="A tier, or any.")] = "standard",
    region: Annotated[str, typer.Option(help="All regions unless given.")] = "",
    everyone: Everyone = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
    project: Project = OWN_PROJECT,
) -> None:
    """Add a price of your own, or say which model a deployment is. Prints its id."""
    body = {
        "provider": provider,
        "model": model,
        "effective_from": start,
        "effective_to": end,
        "per_million_tokens": _pairs(tokens),
        "per_unit": _pairs(unit),
        "alias": alias,
        "tier": tier,
        "region": region,
    }
    with connected(url, key) as client:
        added = json.loads(client.post(_path(project, everyone=everyone), body))
    typer.echo(added["id"])


@override.command("list")
def list_overrides(
    everyone: Everyone = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
    project: Project = OWN_PROJECT,
    as_json: AsJson = False,
) -> None:
    """List the prices of your own."""
    with connected(url, key) as client:
        text = client.get(_path(project, everyone=everyone))
    if as_json:
        show_document(text)
        return
    columns = ("id", "provider", "model", "from", "to", "tier", "region", "what")
    show_table(columns, (_row(each) for each in json.loads(text)["results"]))


@override.command("remove")
def remove(
    override_id: Annotated[str, typer.Argument(metavar="ID")],
    everyone: Everyone = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
    project: Project = OWN_PROJECT,
) -> None:
    """Remove a price of your own."""
    with connected(url, key) as client:
        client.delete(_path(project, everyone=everyone) + segment(override_id) + "/")
    typer.echo("Removed.")


def _path(project: str, *, everyone: bool) -> str:
    return "/api/price_overrides/" if everyone else f"/api/projects/{project}/price_overrides/"


def _pairs(texts: list[str] | None) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts or ()]
    if any(not value for _, _, value in pairs):
        raise typer.BadParameter("give a name, = and dollars: --tokens text_output=8.40")
    return {name: value for name, _, value in pairs}


def _row(entry: dict[str, Any]) -> tuple[Any, ...]:
    told = {**entry["per_million_tokens"], **entry["per_unit"]}
    what = entry["alias"] or ", ".join(f"{name} {price}" for name, price in told.items())
    names = ("id", "provider", "model", "effective_from", "effective_to", "tier", "region")
    return (*(entry[name] for name in names), what)


def _document(quote: Quote, when: datetime) -> dict[str, Any]:
    return {
        "provider": quote.provider,
        "model": quote.model,
        "how": quote.how,
        "at": when.isoformat(),
        "source": quote.source,
        "version": quote.version,
        "since": quote.as_of.isoformat() if quote.as_of else None,
        "deprecated": quote.deprecated,
        "prices": _lines(quote),
    }


def _lines(quote: Quote) -> list[tuple[str, int, str, str]]:
    from nilometer.pricing.rates import BUCKETS

    assert quote.rates is not None
    million = Decimal(1_000_000)
    found = [
        (bucket, start, f"{(price * million).normalize():f}", "1,000,000 tokens")
        for start, row in quote.rates.rows
        for bucket, price in zip(BUCKETS, row, strict=True)
        if price is not None
    ]
    units = quote.rates.units.items()
    return found + [(unit, 0, f"{rate.price:f}", f"{rate.per:,}") for unit, rate in units]
