"""`nilometer blobs`: the place where blobs are kept."""

from __future__ import annotations

from typing import Annotated

import typer

from nilometer.cli.app import app
from nilometer.cli.offline import AsJson
from nilometer.cli.output import show_json, visible

blobs = typer.Typer(no_args_is_help=True, help="The place where large values are kept.")
app.add_typer(blobs, name="blobs")


@blobs.command("setup")
def setup(
    create_bucket: Annotated[
        bool, typer.Option("--create-bucket", help="Make the bucket when it is not there.")
    ] = False,
    retention: Annotated[
        list[int] | None,
        typer.Option(
            min=1,
            max=36500,
            metavar="DAYS",
            help="Also make the rule of this retention; repeat for more.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be changed, and change nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Set the bucket of NILOMETER_BLOBS_URL up: public access blocked, and a lifecycle rule for
    each retention. What is set already, and other rules, stay as they are."""
    from nilometer import settings
    from nilometer.blobs.setup import set_up

    steps = set_up(
        settings.load(), create_bucket=create_bucket, retentions=retention or (), dry_run=dry_run
    )
    if as_json:
        found = [{"changed": step.changed, "step": step.said} for step in steps]
        show_json({"dry_run": dry_run, "steps": found})
        return
    mark = "would change" if dry_run else "changed"
    for step in steps:
        typer.echo(f"{mark if step.changed else 'unchanged':<12}  {visible(step.said)}")
