"""`nilometer projects`: projects, their rules, and their deletion."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from nilometer.access.types import CaptureMode
from nilometer.cli.administration import Administration
from nilometer.cli.app import app
from nilometer.cli.managing import Shown, managing, secrets, sentence, table
from nilometer.cli.output import visible
from nilometer.errors import NotFound

projects = typer.Typer(
    no_args_is_help=True,
    help="List, create, rename and delete projects, set their rules, rotate their keys.",
)
app.add_typer(projects, name="projects")

_Id = Annotated[int, typer.Argument(metavar="ID", help="As `projects list` shows it.")]


@managing(projects, "list")
def list_projects(way: Administration) -> Shown:
    """List the projects and their rules."""
    found = way.projects()
    columns = ("id", "name", "capture", "dropped ids", "retention", "rules version", "created")
    return table(found, columns, (_row(project) for project in found))


@managing(projects, "create")
def create(
    way: Administration,
    name: Annotated[str, typer.Argument(help="What you will know it by.")],
    organization: Annotated[
        str | None, typer.Option("--org", metavar="ID", help="As `orgs list` shows it.")
    ] = None,
) -> Shown:
    """Create a project and print its project key, once: only a hash of it is kept.

    The key alone goes to stdout: KEY=$(nilometer projects create staging)
    """
    project = way.create_project(name, organization)
    return _with_key(project, f"Created project {_named(project)}.")


@managing(projects, "rename")
def rename(
    way: Administration,
    project_id: _Id,
    name: Annotated[str, typer.Argument(help="Its new name.")],
) -> Shown:
    """Give a project another name."""
    project = way.change_project(project_id, {"name": name})
    return sentence(project, f"Renamed project {_named(project)}.")


@managing(projects, "set")
def set_rules(
    way: Administration,
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
    other_spans: Annotated[
        bool | None,
        typer.Option(
            "--other-spans/--no-other-spans",
            help="Keep OpenTelemetry's spans that are not of AI, or drop them.",
        ),
    ] = None,
) -> Shown:
    """Set a project's rules. A running server follows within 5 seconds; the rest stays as it is."""
    if drop_id and drop_none:
        raise typer.BadParameter("give --drop-id or --drop-none, not both")
    changes: dict[str, Any] = {} if capture is None else {"capture": capture}
    if drop_id or drop_none:
        changes["dropped_distinct_ids"] = drop_id or []
    if retention is not None:
        changes["retention_days"] = _days(retention)
    if other_spans is not None:
        changes["keep_other_spans"] = other_spans
    if not changes:
        raise typer.BadParameter(
            "nothing to set; give --capture, --drop-id, --retention or --other-spans"
        )
    project = way.change_project(project_id, changes)
    return sentence(project, f"Set the rules of project {_named(project)}.")


@managing(projects, "redact")
def redact(
    way: Administration,
    project_id: _Id,
    pattern: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A built-in pattern, such as email. Repeat for several."),
    ] = None,
    regex: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=REGEX", help="A pattern of your own, in RE2's syntax."),
    ] = None,
    key_name: Annotated[
        list[str] | None,
        typer.Option(
            "--key-name", metavar="NAME", help="A name whose values are not kept, at any depth."
        ),
    ] = None,
    content: Annotated[
        str | None,
        typer.Option(help="none: keep no prompts, answers or other content at all. keep: do."),
    ] = None,
    off: Annotated[bool, typer.Option("--off", help="Remove the rules.")] = False,
    test: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="Set nothing: show what the rules given, or else the project's, make of a text, "
            "or of an event as JSON. `-` reads it from stdin.",
        ),
    ] = None,
) -> Shown:
    """Set what is kept out of everything that is stored. A running server follows within 5 seconds.

    The rules given replace those before; with none, the project's are shown. What was stored
    before stays as it is.
    """
    rules = _rules(pattern, regex, key_name, content)
    if off and (rules or test is not None):
        raise typer.BadParameter("--off goes with no other option")
    if test is not None:
        text = typer.get_text_stream("stdin").read() if test == "-" else test
        return _tried(text, _set_rules(way, project_id) if rules is None else rules)
    if rules is None and not off:
        return _shown_rules(_set_rules(way, project_id))
    project = way.change_project(project_id, {"redaction": rules})
    return sentence(project, f"Set the redaction rules of project {_named(project)}.")


@managing(projects, "rotate")
def rotate(way: Administration, project_id: _Id) -> Shown:
    """Put a new project key in place of the one named default, and print it, once.

    The one before is refused within 5 seconds. Keys of other names stay.
    """
    project = way.rotate_project(project_id)
    return _with_key(project, f"Rotated the key of project {_named(project)}.")


@managing(projects, "delete")
def delete(
    way: Administration,
    project_id: _Id,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> Shown:
    """Delete a project for good: its keys, events, blobs and dead letters.

    It is gone for everyone within 5 seconds; the server removes what it had soon after.
    """
    if not yes:
        typer.confirm(f"Delete project {project_id} and all it holds, for good?", abort=True)
    return _progress(way.delete_project(project_id))


@managing(projects, "deletion")
def deletion(way: Administration, project_id: _Id) -> Shown:
    """Show how far the deletion of a project has come."""
    return _progress(way.deletion(project_id))


def _rules(
    patterns: list[str] | None,
    regexes: list[str] | None,
    keys: list[str] | None,
    content: str | None,
) -> dict[str, Any] | None:
    """The rules that the options give, None where they give none."""
    if not (patterns or regexes or keys or content):
        return None
    own: list[dict[str, str]] = []
    for given in regexes or []:
        name, equals, regex = given.partition("=")
        if not equals:
            raise typer.BadParameter("--regex takes NAME=REGEX")
        own.append({"name": name, "regex": regex})
    return {"patterns": [*(patterns or []), *own], "keys": keys or [], "content": content or "keep"}


def _set_rules(way: Administration, project_id: int) -> dict[str, Any]:
    for project in way.projects():
        if project["id"] == project_id:
            return project["redaction"] or {}
    raise NotFound(f"there is no project {project_id}", attr="project_id")


def _shown_rules(rules: dict[str, Any]) -> Shown:
    if not rules:
        return sentence(None, "No redaction rules.")
    rows = [
        ("pattern", each, "built in") if isinstance(each, str) else ("pattern", *each.values())
        for each in rules["patterns"]
    ]
    rows += [("key", key, "") for key in rules["keys"]]
    return table(rules, ("rule", "name", "regex"), [*rows, ("content", rules["content"], "")])


def _tried(text: str, rules: dict[str, Any]) -> Shown:
    """What the rules make of a text; nothing is read or written."""
    from nilometer.capture.redaction import tried

    told, counts = tried(text, rules)
    summary = ", ".join(f"{rule} {count}" for rule, count in sorted(counts.items()))

    def tell() -> None:
        typer.echo(visible(told))
        typer.echo(f"redacted: {visible(summary) or 'nothing'}", err=True)

    return Shown({"text": told, "redacted": counts}, tell)


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


def _with_key(project: dict[str, Any], text: str) -> Shown:
    return secrets(project, [project["api_token"]], f"{text} Keep the key: it is not shown again.")


def _progress(deletion: dict[str, Any]) -> Shown:
    counts = ", ".join(
        f"{count} {kind.replace('_', ' ')}" for kind, count in deletion["deleted"].items()
    )
    text = f"Project {deletion['project_id']}: {deletion['state']}. Deleted so far: {counts}."
    if deletion["last_error"]:
        text += f"\nThe last attempt failed ({visible(deletion['last_error'])}); it is repeated."
    return sentence(deletion, text)


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
