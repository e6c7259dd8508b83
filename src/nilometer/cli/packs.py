"""`nilometer packs`: how exceptions are judged and handled, version by version."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

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
from nilometer.cli.output import show_table, visible
from nilometer.cli.pack_files import read_bytes, show_problems

packs = typer.Typer(no_args_is_help=True, help="Domain packs: how exceptions are handled.")
app.add_typer(packs, name="packs")

_VERSION = ("name", "version", "state", "changed_at", "changed_by")

Name = Annotated[str, typer.Argument(help="The pack's name.")]
Version = Annotated[int, typer.Argument(help="Of the pack.", min=1)]
File = Annotated[Path, typer.Argument(help="The pack, in YAML or JSON; - for stdin.")]


@packs.command("list")
def list_packs(
    name: Annotated[str | None, typer.Option(help="Only this pack's versions.")] = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    project: Project = OWN_PROJECT,
    as_json: AsJson = False,
) -> None:
    """List the versions, by name, the newest first."""
    with connected(url, key) as client:
        text = client.get(_path(project), {} if name is None else {"name": name})
    if as_json:
        show_document(text)
        return
    found = json.loads(text)["results"]
    show_table(_VERSION, ([each[column] for column in _VERSION] for each in found))


@packs.command("show")
def show(
    name: Name,
    version: Annotated[int | None, typer.Argument(help="By default the active one.", min=1)] = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    project: Project = OWN_PROJECT,
) -> None:
    """Print a version with its document, as JSON."""
    path = f"{_path(project)}{segment(name)}/" + ("" if version is None else f"{version}/")
    with connected(url, key) as client:
        show_document(client.get(path))


@packs.command("import")
def import_pack(
    file: Annotated[
        Path | None, typer.Argument(help="The pack, in YAML or JSON; - for stdin.")
    ] = None,
    built_in: Annotated[
        str | None, typer.Option(help="In place of a file, one that ships with Nilometer.")
    ] = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    project: Project = OWN_PROJECT,
    as_json: AsJson = False,
) -> None:
    """Add a draft of the next version. Nothing is handled by it until it is activated."""
    if (file is None) == (built_in is None):
        raise typer.BadParameter("give a file, or --built-in with a name")
    body: dict[str, Any] = {"built_in": built_in}
    if file is not None:
        body = {"text": read_bytes(file).decode("utf-8", "replace")}
    with connected(url, key) as client:
        checked = json.loads(client.post(f"{_path(project)}validate/", body))
        if not checked["valid"]:
            show_problems(
                (each["path"], each["line"], each["detail"]) for each in checked["problems"]
            )
        text = client.post(_path(project), body)
    if as_json:
        show_document(text)
    else:
        added = json.loads(text)
        typer.echo(f"{visible(added['name'])} {added['version']} is a {added['state']}.")


@packs.command("validate")
def validate(file: File) -> None:
    """Say whether a file has a pack, and everything that is wrong with it. Needs no server."""
    from nilometer.incidents.packs.documents import read_pack
    from nilometer.incidents.packs.reading import PackInvalid

    try:
        pack, _ = read_pack(read_bytes(file))
    except PackInvalid as error:
        show_problems((each.path, each.line, each.sentence) for each in error.problems)
    typer.echo(f"{visible(pack.name)} can be imported.")


@packs.command("activate")
def activate(
    name: Name,
    version: Version,
    url: Url = DEFAULT_URL,
    key: Key = None,
    project: Project = OWN_PROJECT,
) -> None:
    """Handle exceptions by this version from now on."""
    _turn(url, key, f"{_path(project)}{segment(name)}/{version}/activate/")


@packs.command("deactivate")
def deactivate(
    name: Name,
    version: Version,
    url: Url = DEFAULT_URL,
    key: Key = None,
    project: Project = OWN_PROJECT,
) -> None:
    """Begin nothing by this version any more."""
    _turn(url, key, f"{_path(project)}{segment(name)}/{version}/deactivate/")


@packs.command("built-in")
def built_in(
    name: Annotated[str | None, typer.Argument(help="Print this one.")] = None,
) -> None:
    """List the packs that ship with Nilometer, or print one. Needs no server."""
    from nilometer.incidents.packs import built_in as shipped

    typer.echo(
        "\n".join(shipped.names()) if name is None else shipped.text_of(name), nl=name is None
    )


@packs.command("schema")
def schema() -> None:
    """Print the JSON Schema of packs, for an editor. Needs no server."""
    from nilometer.incidents.packs.publishing import schema_text

    typer.echo(schema_text().decode())


def _turn(url: str, key: str | None, path: str) -> None:
    with connected(url, key) as client:
        done = json.loads(client.post(path))
    typer.echo(f"{visible(done['name'])} {done['version']} is {done['state']}.")


def _path(project: str) -> str:
    return f"/api/projects/{project}/packs/"
