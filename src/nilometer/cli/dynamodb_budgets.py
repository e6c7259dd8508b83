"""`nilometer usage dynamodb set-budgets`: budgets that are kept without a server."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from nilometer.cli.offline import AsJson
from nilometer.cli.output import show_json
from nilometer.errors import ConfigurationError

Table = Annotated[str, typer.Argument(envvar="DYNAMODB_TABLE_NAME", help="The table.")]


def set_budgets(
    table: Table,
    file: Annotated[str, typer.Argument(help="A JSON list of all budgets; - for stdin.")],
    region: Annotated[
        str | None, typer.Option(help="Its region; else boto3's: AWS_REGION, the profile.")
    ] = None,
    endpoint_url: Annotated[
        str | None, typer.Option(help="Where DynamoDB is, where it is not AWS's own.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the file, and ask nobody.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make these the budgets of a table, which the Lambda of docs/budgets.md looks at. Those that
    are not in the file are deleted."""
    from nilometer.budgets import dynamodb_items, parsing
    from nilometer.domain import clock
    from nilometer.dynamodb import client

    text = _read(file)
    if dry_run:
        kept, gone = len(parsing.parse_all(text)), 0
    else:
        try:
            connected = client.connect(region=region, endpoint_url=endpoint_url)
            kept, gone = dynamodb_items.replace(connected, table, text, clock.now())
        except Exception as error:
            if not client.is_botocore(error):
                raise
            raise ConfigurationError(f"DynamoDB: {client.explained(error)}") from None
    if as_json:
        show_json({"table": table, "budgets": kept, "deleted": gone, "dry_run": dry_run})
    elif dry_run:
        typer.echo(f"The file has {kept} budgets, and is in order.")
    else:
        typer.echo(f"The table {table} has {kept} budgets; {gone} others are deleted.")


def _read(file: str) -> str:
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file} cannot be read: {type(error).__name__}") from None
