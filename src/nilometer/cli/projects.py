"""`nilometer projects`: list and create projects and set their rules, offline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from nilometer.access.types import CaptureMode
from nilometer.cli.app import app
from nilometer.cli.offline import AsJson, DataDir, open_accounts
from nilometer.cli.output import show_json, show_table

if TYPE_CHECKING:
    from nilometer.access.accounts import ProjectInfo

projects = typer.Typer(no_args_is_help=True, help="List and create projects and set their rules.")
app.add_typer(projects, name="projects")


@projects.command("list")
def list_projects(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """List the projects and their rules."""
    with open_accounts(data_dir) as accounts:
        found = accounts.list_projects()
    if as_json:
        show_json([_described(project) for project in found])
        return
    columns = ("id", "name", "capture", "dropped ids", "retention", "rules version", "created")
    show_table(columns, (_row(project) for project in found))


@projects.command("create")
def create(
    name: Annotated[str, typer.Argument(help="What you will know it by.")],
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Create a project. Its keys come from `nilometer keys create --project ID`."""
    with open_accounts(data_dir) as accounts:
        project = accounts.create_project(name)
    _show(project, as_json, f"Created project {project.project_id} ({project.name}).")


@projects.command("set")
def set_rules(
    project_id: Annotated[int, typer.Argument(metavar="ID", help="As `projects list` shows it.")],
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
    as_json: AsJson = False,
) -> None:
    """Set a project's rules. A running server follows within 5 seconds; the rest stays as it is."""
    if drop_id and drop_none:
        raise typer.BadParameter("give --drop-id or --drop-none, not both")
    if capture is None and not drop_id and not drop_none and retention is None:
        raise typer.BadParameter("nothing to set; give --capture, --drop-id or --retention")
    days = None if retention is None else _days(retention)
    with open_accounts(data_dir) as accounts:
        project = accounts.set_capture(project_id, capture, [] if drop_none else drop_id, days)
    _show(project, as_json, f"Set the rules of project {project_id} ({project.name}).")


def _days(text: str) -> int | Literal["default"]:
    if text == "default":
        return "default"
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter("--retention takes a number of days, or `default`") from None


def _show(project: ProjectInfo, as_json: bool, sentence: str) -> None:
    if as_json:
        show_json(_described(project))
    else:
        typer.echo(sentence)


def _described(project: ProjectInfo) -> dict[str, Any]:
    return {
        "id": project.project_id,
        "organization_id": project.organization_id,
        "name": project.name,
        "capture": project.capture,
        "dropped_distinct_ids": sorted(project.dropped_distinct_ids),
        "retention_days": project.retention_days,
        "config_version": project.config_version,
        "created_at": project.created_at.isoformat(),
    }


def _row(project: ProjectInfo) -> tuple[object, ...]:
    return (
        project.project_id,
        project.name,
        project.capture,
        len(project.dropped_distinct_ids) or "none",
        f"{project.retention_days} days" if project.retention_days else "default",
        project.config_version,
        f"{project.created_at:%Y-%m-%d %H:%M}",
    )
