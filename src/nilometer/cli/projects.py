"""`nilometer projects`: projects, their rules, and their deletion."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from nilometer.access.types import CaptureMode
from nilometer.cli.administration import DataDir, Key, Url, administration
from nilometer.cli.app import app
from nilometer.cli.offline import AsJson
from nilometer.cli.output import show_json, show_table, visible

projects = typer.Typer(
    no_args_is_help=True,
    help="List, create, rename and delete projects, set their rules, rotate their keys.",
)
app.add_typer(projects, name="projects")

_Id = Annotated[int, typer.Argument(metavar="ID", help="As `projects list` shows it.")]


@projects.command("list")
def list_projects(
    data_dir: DataDir = None, url: Url = None, key: Key = None, as_json: AsJson = False
) -> None:
    """List the projects and their rules."""
    with administration(data_dir, url, key) as way:
        found = way.projects()
    if as_json:
        show_json(found)
        return
    columns = ("id", "name", "capture", "dropped ids", "retention", "rules version", "created")
    show_table(columns, (_row(project) for project in found))


@projects.command("create")
def create(
    name: Annotated[str, typer.Argument(help="What you will know it by.")],
    organization: Annotated[
        str | None, typer.Option("--org", metavar="ID", help="As `orgs list` shows it.")
    ] = None,
    data_dir: DataDir = None,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Create a project and print its project key, once: only a hash of it is kept.

    The key alone goes to stdout: KEY=$(nilometer projects create staging)
    """
    with administration(data_dir, url, key) as way:
        project = way.create_project(name, organization)
    _show_token(project, as_json, f"Created project {_named(project)}.")


@projects.command("rename")
def rename(
    project_id: _Id,
    name: Annotated[str, typer.Argument(help="Its new name.")],
    data_dir: DataDir = None,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Give a project another name."""
    with administration(data_dir, url, key) as way:
        project = way.change_project(project_id, {"name": name})
    _show(project, as_json, f"Renamed project {_named(project)}.")


@projects.command("set")
def set_rules(
    project_id: _Id,
    capture: Annotated[
        CaptureMode | None,
        typer.Option(
            help="accept: keep events. drop: answer 200 and keep none. over_quota: answer 429."
        ),
    ] = None,
    drop_id: Annotated[
        list[str] | None,
        typer.Option(
            help="A distinct id whose events are dropped. Repeat for several; they replace those "
            "set before."
        ),
    ] = None,
    drop_none: Annotated[bool, typer.Option("--drop-none", help="Drop no distinct id.")] = False,
    retention: Annotated[
        str | None, typer.Option(metavar="DAYS", help="Days to keep events, or `default`.")
    ] = None,
    data_dir: DataDir = None,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Set a project's rules. A running server follows within 5 seconds; the rest stays as it is."""
    if drop_id and drop_none:
        raise typer.BadParameter("give --drop-id or --drop-none, not both")
    changes: dict[str, Any] = {} if capture is None else {"capture": capture}
    if drop_id or drop_none:
        changes["dropped_distinct_ids"] = drop_id or []
    if retention is not None:
        changes["retention_days"] = _days(retention)
    if not changes:
        raise typer.BadParameter("nothing to set; give --capture, --drop-id or --retention")
    with administration(data_dir, url, key) as way:
        project = way.change_project(project_id, changes)
    _show(project, as_json, f"Set the rules of project {_named(project)}.")


@projects.command("rotate")
def rotate(
    project_id: _Id,
    data_dir: DataDir = None,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Put a new project key in place of the one named default, and print it, once.

    The one before is refused within 5 seconds. Keys of other names stay.
    """
    with administration(data_dir, url, key) as way:
        project = way.rotate_project(project_id)
    _show_token(project, as_json, f"Rotated the key of project {_named(project)}.")


@projects.command("delete")
def delete(
    project_id: _Id,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    data_dir: DataDir = None,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Delete a project for good: its keys, events, blobs and dead letters.

    It is gone for everyone within 5 seconds; the server removes what it had soon after.
    """
    if not yes:
        typer.confirm(f"Delete project {project_id} and all it holds, for good?", abort=True)
    with administration(data_dir, url, key) as way:
        deletion = way.delete_project(project_id)
    _show_deletion(deletion, as_json)


@projects.command("deletion")
def deletion(
    project_id: _Id,
    data_dir: DataDir = None,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Show how far the deletion of a project has come."""
    with administration(data_dir, url, key) as way:
        found = way.deletion(project_id)
    _show_deletion(found, as_json)


def _days(text: str) -> int | None:
    """None follows the server's setting."""
    if text == "default":
        return None
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter("--retention takes a number of days, or `default`") from None


def _named(project: dict[str, Any]) -> str:
    return f"{project['id']} ({visible(project['name'])})"


def _show(project: dict[str, Any], as_json: bool, sentence: str) -> None:
    if as_json:
        show_json(project)
    else:
        typer.echo(sentence)


def _show_token(project: dict[str, Any], as_json: bool, sentence: str) -> None:
    if as_json:
        show_json(project)
        return
    typer.echo(project["api_token"])
    typer.echo(f"{sentence} Keep the key: it is not shown again.", err=True)


def _show_deletion(deletion: dict[str, Any], as_json: bool) -> None:
    if as_json:
        show_json(deletion)
        return
    counts = ", ".join(
        f"{count} {kind.replace('_', ' ')}" for kind, count in deletion["deleted"].items()
    )
    typer.echo(f"Project {deletion['project_id']}: {deletion['state']}. Deleted so far: {counts}.")
    if deletion["last_error"]:
        typer.echo(f"The last attempt failed ({visible(deletion['last_error'])}); it is repeated.")


def _row(project: dict[str, Any]) -> tuple[object, ...]:
    days = project["retention_days"]
    return (
        project["id"],
        project["name"],
        project["capture"],
        len(project["dropped_distinct_ids"]) or "none",
        f"{days} days" if days else "default",
        project["config_version"],
        project["created_at"],
    )
