"""`nilometer dead-letters`: see what the pipeline gave up on, and decide about it."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from nilometer.cli.app import app
from nilometer.cli.client import (
    DEFAULT_URL,
    OWN_PROJECT,
    AsJson,
    Client,
    Key,
    Project,
    Url,
    connected,
    segment,
    show_document,
)
from nilometer.cli.output import show_table, visible

_ALL = 1_000_000
_UNOWNED_PATH = "/api/dead_letters/"

dead_letters = typer.Typer(
    no_args_is_help=True, help="Records that could not be processed: see, replay, discard."
)
app.add_typer(dead_letters, name="dead-letters")

State = Annotated[str | None, typer.Option(help="open, replayed or discarded.")]
Reason = Annotated[str | None, typer.Option(help="Only those with this reason code.")]
Nobodys = Annotated[
    bool, typer.Option("--unowned", help="Those of no project that exists, instead of a project's.")
]
Identifier = Annotated[str, typer.Argument(metavar="ID", help="As `dead-letters list` shows it.")]


@dead_letters.command("list")
def list_letters(
    state: State = None,
    reason: Reason = None,
    limit: Annotated[int, typer.Option(min=1, help="So many, the newest.")] = 50,
    url: Url = DEFAULT_URL,
    key: Key = None,
    project: Project = OWN_PROJECT,
    unowned: Nobodys = False,
    as_json: AsJson = False,
) -> None:
    """List dead letters, newest first."""
    with connected(url, key) as client:
        filters = {"state": state, "reason": reason}
        found = client.pages(_path(project, unowned=unowned), filters, limit)
    if as_json:
        show_document(found.text())
        return
    columns = ("id", "created", "state", "reason", "attempts", "bytes", "event", "detail")
    show_table(columns, (_row(letter) for letter in found.values()))


@dead_letters.command("show")
def show(
    letter_id: Identifier,
    url: Url = DEFAULT_URL,
    key: Key = None,
    project: Project = OWN_PROJECT,
    unowned: Nobodys = False,
    as_json: AsJson = False,
) -> None:
    """Show one dead letter with its record. The record may hold prompts."""
    with connected(url, key) as client:
        text = client.get(_path(project, letter_id, unowned=unowned))
    if as_json:
        show_document(text)
        return
    letter: dict[str, Any] = json.loads(text)
    parts = [letter.pop("headers"), letter.pop("payload")]
    show_table(("dead letter", ""), letter.items())
    for part in parts:
        typer.echo(visible(part["data"]))


@dead_letters.command("replay")
def replay(
    letter_ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every open one.")] = False,
    reason: Reason = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    project: Project = OWN_PROJECT,
    unowned: Nobodys = False,
    as_json: AsJson = False,
) -> None:
    """Put records into the log again, once the cause is mended; nothing is counted twice."""
    if bool(letter_ids) is every:
        raise typer.BadParameter("name the dead letters, or give --all")
    with connected(url, key) as client:
        chosen = letter_ids or _open(client, _path(project, unowned=unowned), reason)
        texts = [
            client.post(f"{_path(project, letter_id, unowned=unowned)}replay/")
            for letter_id in chosen
        ]
    _tell("Replayed", texts, as_json=as_json)


@dead_letters.command("discard")
def discard(
    letter_ids: Annotated[list[str], typer.Argument(metavar="ID...")],
    reason: Annotated[str, typer.Option(help="Why; it is kept with your key's id.")],
    url: Url = DEFAULT_URL,
    key: Key = None,
    project: Project = OWN_PROJECT,
    unowned: Nobodys = False,
    as_json: AsJson = False,
) -> None:
    """Decide that records are not wanted."""
    with connected(url, key) as client:
        texts = [
            client.post(f"{_path(project, letter_id, unowned=unowned)}discard/", {"reason": reason})
            for letter_id in letter_ids
        ]
    _tell("Discarded", texts, as_json=as_json)


def _open(client: Client, path: str, reason: str | None) -> list[str]:
    found = client.pages(path, {"state": "open", "reason": reason}, _ALL)
    return [letter["id"] for letter in found.values()]


def _path(project: str, letter_id: str | None = None, *, unowned: bool) -> str:
    path = _UNOWNED_PATH if unowned else f"/api/projects/{project}/dead_letters/"
    return path if letter_id is None else f"{path}{segment(letter_id)}/"


def _tell(done: str, texts: list[str], *, as_json: bool) -> None:
    if as_json:
        show_document('{"results":[' + ",".join(texts) + "]}")
    else:
        typer.echo(f"{done} {len(texts)} dead letter{'' if len(texts) == 1 else 's'}.")


def _row(letter: dict[str, Any]) -> tuple[object, ...]:
    return (
        letter["id"],
        letter["created_at"],
        letter["state"],
        letter["reason"],
        letter["attempts"],
        letter["payload_size"],
        letter["uuid"],
        letter["detail"],
    )
