"""`nilometer orgs`: organizations and the audit log."""

from __future__ import annotations

from typing import Annotated, Any, cast

import typer

from nilometer.cli.administration import Administration
from nilometer.cli.app import app
from nilometer.cli.managing import Shown, managing, secrets, sentence, table
from nilometer.cli.output import visible

orgs = typer.Typer(
    no_args_is_help=True, help="List, create, rename and delete organizations; read the audit log."
)
app.add_typer(orgs, name="orgs")

_Id = Annotated[str, typer.Argument(metavar="ID", help="As `orgs list` shows it, or @current.")]


@managing(orgs, "list")
def list_organizations(way: Administration) -> Shown:
    """List the organizations: with a key its own, else every one."""
    found = way.organizations()
    rows = ((each["id"], each["name"], each["slug"], each["created_at"]) for each in found)
    return table(found, ("id", "name", "slug", "created"), rows)


@managing(orgs, "create")
def create(
    way: Administration,
    name: Annotated[str, typer.Argument(help="What you will know it by.")],
) -> Shown:
    """Create an organization with a project, and print the keys that come with it, once.

    The personal key (every scope) and the project key go to stdout, a line each.
    """
    made = way.create_organization(name)
    project = made["project_key"]
    return secrets(
        made,
        [made["personal_key"]["token"], project["token"]],
        f"Created organization {made['id']} ({visible(made['name'])}) with project "
        f"{project['project_id']}. Keep the keys: they are not shown again.",
    )


@managing(orgs, "rename")
def rename(
    way: Administration,
    organization_id: _Id,
    name: Annotated[str, typer.Argument(help="Its new name.")],
) -> Shown:
    """Give an organization another name. Its slug stays."""
    renamed = way.rename_organization(organization_id, name)
    return sentence(
        renamed, f"Organization {renamed['id']} is now called {visible(renamed['name'])}."
    )


@managing(orgs, "delete")
def delete(
    way: Administration,
    organization_id: _Id,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> Shown:
    """Delete an organization with every project and key of it, for good."""
    if not yes:
        typer.confirm(f"Delete organization {visible(organization_id)} for good?", abort=True)
    deletions = way.delete_organization(organization_id)
    ids = ", ".join(str(deletion["project_id"]) for deletion in deletions) or "none"
    return sentence(deletions, f"Deleted. The server removes what its projects had ({ids}).")


@managing(orgs, "audit")
def audit(
    way: Administration,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many entries.")] = 50,
) -> Shown:
    """Show what was changed, by whom and from where, newest first."""
    entries = way.audit_log(limit)
    columns = ("at", "actor", "from", "action", "project", "subject", "detail")
    return table(entries, columns, (_row(entry) for entry in entries))


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
