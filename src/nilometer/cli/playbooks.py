"""`nilometer playbook`: what a pack would do with an exception, and which playbooks are active."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

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
    show_document,
)
from nilometer.cli.output import show_table, visible
from nilometer.cli.pack_files import read_bytes, show_problems
from nilometer.errors import InvalidInput

if TYPE_CHECKING:
    from datetime import datetime

    from nilometer.incidents.incident import NewException
    from nilometer.incidents.packs.pack import Pack

playbook = typer.Typer(no_args_is_help=True, help="Playbooks of packs.")
app.add_typer(playbook, name="playbook")

BUILT_IN = "built-in:"
_PLAYBOOK = ("name", "pack", "version", "priority", "types", "when", "tools")
_MEMBERS = {
    "exception_type": "exceptionType",
    "source_system": "sourceSystem",
    "severity": "severity",
    "occurred_at": "occurredAt",
    "payload": "payload",
    "domain": "domain",
}


class RaisedBy(StrEnum):
    """What an exception is taken to be raised by."""

    KEY = "key"
    RULE = "rule"
    SYSTEM = "system"


class Form(StrEnum):
    """How the result is shown."""

    TEXT = "text"
    JSON = "json"


@playbook.command("test")
def rehearse_pack(
    file: Annotated[
        str, typer.Argument(help="A pack, in YAML or JSON, or built-in:NAME.", metavar="FILE")
    ],
    exception: Annotated[
        Path, typer.Option("--with", help="An exception as it would be raised, in JSON.")
    ],
    tenant: Annotated[int, typer.Option(min=1, help="The project whose overrides count.")] = 1,
    failing: Annotated[
        list[str] | None, typer.Option("--fail", help="A step that is to fail. Repeatable.")
    ] = None,
    count: Annotated[
        list[str] | None,
        typer.Option(help="How many were handled by a rate cap so far, as NAME=N. Repeatable."),
    ] = None,
    raised_by: Annotated[
        RaisedBy, typer.Option(help="By whom it is raised: a sender with a key, or a rule.")
    ] = RaisedBy.KEY,
    form: Annotated[Form, typer.Option("--format", help="How it is shown.")] = Form.TEXT,
) -> None:
    """Say which rules and steps would fire for an exception, and why. Nothing is done.

    It needs no server. Every step is taken to succeed that is not named with --fail.
    """
    from nilometer.incidents.incident import ActorKind
    from nilometer.incidents.packs import rehearsal_text
    from nilometer.incidents.packs.rehearsal import rehearse

    pack = _pack(file)
    raised, now = _exception(read_bytes(exception))
    found = rehearse(
        pack,
        raised,
        project_id=tenant,
        now=now,
        failing=failing or (),
        counts=dict(_counted(each) for each in count or ()),
        raised_by=ActorKind(raised_by.value),
    )
    if form is Form.JSON:
        show_document(json.dumps(rehearsal_text.as_json(found), ensure_ascii=False))
    else:
        for line in rehearsal_text.as_text(found).splitlines():
            typer.echo(visible(line))


@playbook.command("list")
def list_playbooks(
    url: Url = DEFAULT_URL,
    key: Key = None,
    project: Project = OWN_PROJECT,
    as_json: AsJson = False,
) -> None:
    """List the playbooks of the active packs, in the order in which they are chosen from."""
    with connected(url, key) as client:
        text = client.get(f"/api/projects/{project}/playbooks/")
    if as_json:
        show_document(text)
        return
    found = json.loads(text)["results"]
    show_table(_PLAYBOOK, ([_cell(each[column]) for column in _PLAYBOOK] for each in found))


def _cell(value: Any) -> Any:
    return ", ".join(map(str, cast("list[Any]", value))) if isinstance(value, list) else value


def _pack(file: str) -> Pack:
    from nilometer.incidents.packs import built_in
    from nilometer.incidents.packs.documents import read_pack
    from nilometer.incidents.packs.reading import PackInvalid

    if file.startswith(BUILT_IN):
        return built_in.pack_of(file.removeprefix(BUILT_IN))
    try:
        return read_pack(read_bytes(Path(file)))[0]
    except PackInvalid as error:
        show_problems((each.path, each.line, each.sentence) for each in error.problems)


def _exception(data: bytes) -> tuple[NewException, datetime]:
    """The exception of a file, and the moment that it is taken to be raised: when it occurred, or
    one that is always the same. Raises InvalidInput."""
    from nilometer.domain import json_text
    from nilometer.incidents.incident import NewException

    try:
        sent = json_text.loads(data)
    except json_text.InvalidJson as error:
        raise InvalidInput(f"the exception is not JSON: {error}") from None
    if not isinstance(sent, dict):
        raise InvalidInput("the exception must be an object")
    members = cast("dict[str, Any]", sent)
    given = {name: members.get(name, members.get(other)) for name, other in _MEMBERS.items()}
    payload: Any = given["payload"] if given["payload"] is not None else {}
    if not isinstance(payload, dict):
        raise InvalidInput("payload must be an object", attr="payload")
    occurred_at = _moment(given["occurred_at"])
    raised = NewException(
        exception_type=_text(given, "exception_type"),
        source_system=_text(given, "source_system"),
        severity=None if given["severity"] is None else _text(given, "severity"),
        occurred_at=occurred_at,
        payload=cast("dict[str, Any]", payload),
        domain=None if given["domain"] is None else _text(given, "domain"),
    )
    return raised, occurred_at


def _text(given: dict[str, Any], name: str) -> str:
    value = given[name]
    if not isinstance(value, str) or not value.strip():
        raise InvalidInput(f"{name} must be a text that is not empty", attr=name)
    return value


def _moment(text: object) -> datetime:
    from datetime import UTC, datetime

    if text is None:
        return datetime(2000, 1, 1, tzinfo=UTC)
    try:
        moment = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise InvalidInput(
            "occurred_at must be a moment with its zone, as 2026-01-31T12:00:00Z",
            attr="occurred_at",
        )
    return moment


def _counted(text: str) -> tuple[str, int]:
    name, equals, number = text.partition("=")
    if not name or not equals or not number.isascii() or not number.isdigit() or len(number) > 9:
        raise typer.BadParameter(f"give --count as NAME=N, not {visible(text)}")
    return name, int(number)
