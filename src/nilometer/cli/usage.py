"""`nilometer usage`: what is being spent, and usage that is kept without a server."""

from __future__ import annotations

import inspect
from typing import Annotated, Any, get_type_hints

import typer

from nilometer.cli.app import app
from nilometer.cli.dynamodb_budgets import set_budgets
from nilometer.cli.offline import AsJson
from nilometer.cli.output import show_json
from nilometer.cli.usage_live import live
from nilometer.errors import ConfigurationError

usage = typer.Typer(invoke_without_command=True)
dynamodb = typer.Typer(no_args_is_help=True, help="Usage in DynamoDB.")
app.add_typer(usage, name="usage")
usage.add_typer(dynamodb, name="dynamodb")
usage.command("live")(live)
dynamodb.command("set-budgets")(set_budgets)


def _live_unless_more(ctx: typer.Context, **given: Any) -> None:
    """Who spent what. Without a command: what is being spent, as `usage live` shows it."""
    if ctx.invoked_subcommand is None:
        live(**given)


# Typer reads a command's options from its signature and its hints.
_HINTS = {"ctx": typer.Context, **get_type_hints(live, include_extras=True)}
_PARAMETERS = [
    inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY),
    *inspect.signature(live).parameters.values(),
]
_live_unless_more.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
    [
        each.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=_HINTS[each.name])
        for each in _PARAMETERS
    ]
)
_live_unless_more.__annotations__ = _HINTS
usage.callback(invoke_without_command=True)(_live_unless_more)


@dynamodb.command("create-table")
def create_table(
    name: Annotated[
        str, typer.Argument(envvar="DYNAMODB_TABLE_NAME", help="The table.")
    ] = "AIUsageMetrics",
    region: Annotated[
        str | None, typer.Option(help="Its region; else boto3's: AWS_REGION, the profile.")
    ] = None,
    endpoint_url: Annotated[
        str | None, typer.Option(help="Where DynamoDB is, where it is not AWS's own.")
    ] = None,
    recover: Annotated[
        bool, typer.Option("--recover", help="Turn point-in-time recovery on.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the definition, and ask nobody.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make the table of `dynamodb://NAME`: on demand, six indexes, and items that expire. A table
    that is there and in order is left as it is."""
    from nilometer.dynamodb import client, table

    if dry_run:
        show_json(table.definition(name) | {"TimeToLiveSpecification": table.time_to_live()})
        return
    try:
        connected = client.connect(region=region, endpoint_url=endpoint_url)
        made = table.create(connected, name, recover=recover)
    except Exception as error:
        if not client.is_botocore(error):
            raise
        raise ConfigurationError(f"DynamoDB: {client.explained(error)}") from None
    if as_json:
        show_json({"table": name, "made": made})
    else:
        typer.echo(f"The table {name} {'is made' if made else 'was there, and is in order'}.")
