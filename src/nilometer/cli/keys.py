"""`nilometer keys`: create, list, rename, rotate and revoke API keys."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from nilometer.access.types import KeyKind, Scope
from nilometer.cli.administration import DataDir, Key, Url, administration
from nilometer.cli.app import app
from nilometer.cli.offline import AsJson
from nilometer.cli.output import show_json, show_table, visible

keys = typer.Typer(no_args_is_help=True, help="Create, list, rename, rotate and revoke API keys.")
app.add_typer(keys, name="keys")

_Id = Annotated[str, typer.Argument(metavar="ID", help="As `keys list` shows it.")]


@keys.command("create")
def create(
    kind: Annotated[
        KeyKind, typer.Option(help="project: captures only. personal: what its scopes say.")
    ] = KeyKind.PROJECT,
    project: Annotated[int, typer.Option(help="The project that it belongs to.")] = 1,
    name: Annotated[str, typer.Option(help="What you will know it by.")] = "unnamed",
    scope: Annotated[
        list[Scope] | None,
        typer.Option(help="What a personal key may do. Repeat for several."),
    ] = None,
    data_dir: DataDir = None,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Create a key and print its token, once: only a hash of it is kept.

    The token alone goes to stdout: KEY=$(nilometer keys create)
    """
    with administration(data_dir, url, key) as way:
        made = way.create_key(kind, project, name, scope or ())
    what = f"Created {made['kind']} key {made['id']} for project {made['project_id']}."
    _show_token(made, as_json, what)


@keys.command("list")
def list_keys(
    project: Annotated[int | None, typer.Option(help="Only this project's.")] = None,
    data_dir: DataDir = None,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """List keys, oldest first, revoked ones too. Tokens are never shown."""
    with administration(data_dir, url, key) as way:
        found = way.keys(project)
    if as_json:
        show_json(found)
        return
    columns = ("id", "kind", "project", "name", "scopes", "token", "created", "state")
    show_table(columns, (_row(each) for each in found))


@keys.command("rename")
def rename(
    key_id: _Id,
    name: Annotated[str, typer.Argument(help="Its new name.")],
    data_dir: DataDir = None,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Give a key another name."""
    with administration(data_dir, url, key) as way:
        _show(way.rename_key(key_id, name), as_json, "Renamed")


@keys.command("rotate")
def rotate(
    key_id: _Id,
    data_dir: DataDir = None,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Put a new token in place of a key's, and print it, once.

    The one before is refused within 5 seconds; the key's id, name and scopes stay.
    """
    with administration(data_dir, url, key) as way:
        made = way.rotate_key(key_id)
    _show_token(made, as_json, f"Rotated {made['kind']} key {made['id']}.")


@keys.command("revoke")
def revoke(
    key_id: _Id,
    data_dir: DataDir = None,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Revoke a key for good. A running server refuses it within 5 seconds."""
    with administration(data_dir, url, key) as way:
        _show(way.revoke_key(key_id), as_json, "Revoked")


def _show(key: dict[str, Any], as_json: bool, done: str) -> None:
    if as_json:
        show_json(key)
    else:
        typer.echo(f"{done} {key['kind']} key {key['id']} ({visible(key['name'])}).")


def _show_token(key: dict[str, Any], as_json: bool, sentence: str) -> None:
    if as_json:
        show_json(key)
        return
    typer.echo(key["token"])
    typer.echo(f"{sentence} Keep the token: it is not shown again.", err=True)


def _row(key: dict[str, Any]) -> tuple[object, ...]:
    return (
        key["id"],
        key["kind"],
        key["project_id"],
        key["name"],
        " ".join(key["scopes"]),
        key["mask"],
        key["created_at"],
        f"revoked {key['revoked_at']}" if key["revoked_at"] else "live",
    )
