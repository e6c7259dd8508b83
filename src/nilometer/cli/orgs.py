"""`nilometer orgs`: organizations and the audit log."""

from __future__ import annotations

from typing import Annotated, Any, cast

import typer

from nilometer.cli.administration import DataDir, Key, Url, administration
from nilometer.cli.app import app
from nilometer.cli.offline import AsJson
from nilometer.cli.output import show_json, show_table, visible

orgs = typer.Typer(
    no_args_is_help=True, help="List, create, rename and delete organizations; read the audit log."
)
app.add_typer(orgs, name="orgs")

_Id = Annotated[str, typer.Argument(metavar="ID", help="As `orgs list` shows it, or @current.")]


@orgs.command("list")
def list_organizations(
    data_dir: DataDir = None, url: Url = None, key: Key = None, as_json: AsJson = False
) -> None:
    """List the organizations: with a key its own, else every one."""
    with administration(data_dir, url, key) as way:
        found = way.organizations()
    if as_json:
        show_json(found)
        return
    rows = ((each["id"], each["name"], each["slug"], each["created_at"]) for each in found)
    show_table(("id", "name", "slug", "created"), rows)


@orgs.command("create")
def create(
    name: Annotated[str, typer.Argument(help="What you will know it by.")],
    data_dir: DataDir = None,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Create an organization with a project, and print the keys that come with it, once.

    The personal key (every scope) and the project key go to stdout, a line each.
    """
    with administration(data_dir, url, key) as way:
        made = way.create_organization(name)
    if as_json:
        show_json(made)
        return
    typer.echo(made["personal_key"]["token"])
    typer.echo(made["project_key"]["token"])
    project = made["project_key"]["project_id"]
    typer.echo(
        f"Created organization {made['id']} ({visible(made['name'])}) with project {project}. "
        "Keep the keys: they are not shown again.",
        err=True,
    )


@orgs.command("rename")
def rename(
    organization_id: _Id,
    name: Annotated[str, typer.Argument(help="Its new name.")],
    data_dir: DataDir = None,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Give an organization another name. Its slug stays."""
    with administration(data_dir, url, key) as way:
        renamed = way.rename_organization(organization_id, name)
    if as_json:
        show_json(renamed)
    else:
        typer.echo(f"Organization {renamed['id']} is now called {visible(renamed['name'])}.")


@orgs.command("delete")
def delete(
    organization_id: _Id,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    data_dir: DataDir = None,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Delete an organization with every project and key of it, for good."""
    if not yes:
        typer.confirm(f"Delete organization {visible(organization_id)} for good?", abort=True)
    with administration(data_dir, url, key) as way:
        deletions = way.delete_organization(organization_id)
    if as_json:
        show_json(deletions)
        return
    ids = ", ".join(str(deletion["project_id"]) for deletion in deletions) or "none"
    typer.echo(f"Deleted. The server removes what its projects had ({ids}).")


@orgs.command("audit")
def audit(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many entries.")] = 50,
    data_dir: DataDir = None,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Show what was changed, by whom and from where, newest first."""
    with administration(data_dir, url, key) as way:
        entries = way.audit_log(limit)
    if as_json:
        show_json(entries)
        return
    columns = ("at", "actor", "from", "action", "project", "subject", "detail")
    show_table(columns, (_row(entry) for entry in entries))


def _row(entry: dict[str, Any]) -> tuple[object, ...]:
    return (
        entry["at"],
        entry["actor"],
        entry["address"],
        entry["action"],
        entry["project_id"],
        entry["subject"],
        ", ".join(f"{name}: {_change(name, value)}" for name, value in entry["detail"].items()),
    )


def _change(name: str, value: object) -> str:
    """A detail; `before -> after` of what changed."""
    if not isinstance(value, list):
        return str(value)
    between = " " if name == "scopes" else " -> "
    return between.join(str(each) for each in cast("list[object]", value))
