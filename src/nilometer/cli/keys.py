"""`nilometer keys`: create, list and revoke API keys, offline, also while the server runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from nilometer.access.types import KeyKind, Scope
from nilometer.cli.app import app
from nilometer.cli.offline import AsJson, DataDir, open_accounts
from nilometer.cli.output import show_json, show_table

if TYPE_CHECKING:
    from nilometer.access.accounts import IssuedKey, KeyInfo

keys = typer.Typer(no_args_is_help=True, help="Create, list and revoke API keys.")
app.add_typer(keys, name="keys")


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
    as_json: AsJson = False,
) -> None:
    """Create a key and print its token, once: only a hash of it is kept.

    The token alone goes to stdout: KEY=$(nilometer keys create)
    """
    with open_accounts(data_dir) as accounts:
        key = accounts.create_key(kind=kind, project_id=project, name=name, scopes=scope or ())
    if as_json:
        show_json(_issued(key))
        return
    typer.echo(key.token)
    typer.echo(
        f"Created {key.kind} key {key.key_id} for project {key.project_id}. "
        "Keep the token: it is not shown again.",
        err=True,
    )


@keys.command("list")
def list_keys(
    project: Annotated[int | None, typer.Option(help="Only this project's.")] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """List keys, oldest first, revoked ones too. Tokens are never shown."""
    with open_accounts(data_dir) as accounts:
        found = accounts.list_keys(project)
    if as_json:
        show_json([_described(key) for key in found])
        return
    columns = ("id", "kind", "project", "name", "scopes", "token", "created", "state")
    show_table(columns, (_row(key) for key in found))


@keys.command("revoke")
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="As `keys list` shows it.")],
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Revoke a key for good. A running server refuses it within 5 seconds."""
    with open_accounts(data_dir) as accounts:
        key = accounts.revoke_key(key_id)
    if as_json:
        show_json(_described(key))
    else:
        typer.echo(f"Revoked {key.kind} key {key.key_id} ({key.name}).")


def _issued(key: IssuedKey) -> dict[str, Any]:
    return {
        "id": key.key_id,
        "kind": key.kind,
        "project_id": key.project_id,
        "name": key.name,
        "scopes": sorted(key.scopes),
        "token": key.token,
    }


def _described(key: KeyInfo) -> dict[str, Any]:
    return {
        "id": key.key_id,
        "kind": key.kind,
        "project_id": key.project_id,
        "name": key.name,
        "scopes": sorted(key.scopes),
        "mask": key.mask,
        "created_at": key.created_at.isoformat(),
        "revoked_at": key.revoked_at and key.revoked_at.isoformat(),
    }


def _row(key: KeyInfo) -> tuple[object, ...]:
    return (
        key.key_id,
        key.kind,
        key.project_id,
        key.name,
        " ".join(sorted(key.scopes)),
        key.mask,
        f"{key.created_at:%Y-%m-%d %H:%M}",
        f"revoked {key.revoked_at:%Y-%m-%d %H:%M}" if key.revoked_at else "live",
    )
