"""`nilometer keys`: create, list, rename, rotate and revoke API keys."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from nilometer.access.types import KeyKind, Scope
from nilometer.cli.administration import Administration
from nilometer.cli.app import app
from nilometer.cli.client import OWN_PROJECT, Project
from nilometer.cli.managing import Shown, managing, secrets, sentence, table
from nilometer.cli.output import visible

keys = typer.Typer(no_args_is_help=True, help="Create, list, rename, rotate and revoke API keys.")
app.add_typer(keys, name="keys")

_Id = Annotated[str, typer.Argument(metavar="ID", help="As `keys list` shows it.")]
_Name = Annotated[str, typer.Argument(help="Its new name.")]


@managing(keys, "create")
def create(
    way: Administration,
    kind: Annotated[
        KeyKind, typer.Option(help="project: captures only. personal: what its scopes say.")
    ] = KeyKind.PROJECT,
    project: Project = OWN_PROJECT,
    name: Annotated[str, typer.Option(help="What you will know it by.")] = "unnamed",
    scope: Annotated[
        list[Scope] | None,
        typer.Option(help="What a personal key may do. Repeat for several."),
    ] = None,
) -> Shown:
    """Create a key and print its token, once: only a hash of it is kept.

    The token alone goes to stdout: KEY=$(nilometer keys create)
    """
    made = way.create_key(kind, project, name, scope or ())
    return _with_token(made, f"Created {_named(made)} for project {made['project_id']}.")


@managing(keys, "list")
def list_keys(
    way: Administration,
    project: Annotated[int | None, typer.Option(help="Only this project's.")] = None,
) -> Shown:
    """List keys, oldest first, revoked ones too. Tokens are never shown."""
    found = way.keys(project)
    columns = ("id", "kind", "project", "name", "scopes", "token", "created", "state")
    return table(found, columns, (_row(each) for each in found))


@managing(keys, "rename")
def rename(way: Administration, key_id: _Id, name: _Name) -> Shown:
    """Give a key another name."""
    renamed = way.rename_key(key_id, name)
    return sentence(renamed, f"Renamed {_named(renamed)} ({visible(renamed['name'])}).")


@managing(keys, "rotate")
def rotate(way: Administration, key_id: _Id) -> Shown:
    """Put a new token in place of a key's, and print it, once.

    The one before is refused within 5 seconds; the key's id, name and scopes stay.
    """
    made = way.rotate_key(key_id)
    return _with_token(made, f"Rotated {_named(made)}.")


@managing(keys, "revoke")
def revoke(way: Administration, key_id: _Id) -> Shown:
    """Revoke a key for good. A running server refuses it within 5 seconds."""
    revoked = way.revoke_key(key_id)
    return sentence(revoked, f"Revoked {_named(revoked)} ({visible(revoked['name'])}).")


def _named(key: dict[str, Any]) -> str:
    return f"{key['kind']} key {key['id']}"


def _with_token(key: dict[str, Any], text: str) -> Shown:
    return secrets(key, [key["token"]], f"{text} Keep the token: it is not shown again.")


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
