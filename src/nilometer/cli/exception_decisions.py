"""`nilometer exceptions`: decide about exceptions."""

from __future__ import annotations

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
    Refused,
    Url,
    connected,
    segment,
    show_document,
)
from nilometer.cli.output import show_table, visible

exceptions = typer.Typer(
    no_args_is_help=True, help="Exceptions: raise them, follow them, decide about them."
)
app.add_typer(exceptions, name="exceptions")

Identifier = Annotated[str, typer.Argument(metavar="ID", help="As `exceptions list` shows it.")]
Approval = Annotated[
    str, typer.Argument(metavar="ID", help="Of an approval, or of the exception that it is about.")
]
Note = Annotated[str | None, typer.Option(help="Why; it is kept with your key's id.")]
Why = Annotated[str, typer.Option(help="Why; it is kept with your key's id.")]


def path_of(project: str, exception_id: str | None = None) -> str:
    """Where a project's exceptions are, or one of them."""
    path = f"/exceptions/{project}/"
    return path if exception_id is None else f"{path}{segment(exception_id)}/"


@exceptions.command("comment")
def comment(
    exception_id: Identifier,
    text: Annotated[str, typer.Argument(help="What is to be said.")],
    url: Url = DEFAULT_URL,
    key: Key = None,
    project: Project = OWN_PROJECT,
    as_json: AsJson = False,
) -> None:
    """Add a comment to an exception's history."""
    with connected(url, key) as client:
        said = client.post(f"{path_of(project, exception_id)}comments/", {"text": text})
    _tell(said, "Added the comment.", as_json=as_json)


@exceptions.command("assign")
def assign(
    exception_id: Identifier,
    owner: Annotated[str, typer.Argument(help='Who; "" for nobody.')],
    url: Url = DEFAULT_URL,
    key: Key = None,
    project: Project = OWN_PROJECT,
    as_json: AsJson = False,
) -> None:
    """Say whose an exception is."""
    with connected(url, key) as client:
        said = client.put(f"{path_of(project, exception_id)}owner/", {"owner": owner or None})
    told = f"The exception is {visible(owner)}'s." if owner else "The exception is nobody's."
    _tell(said, told, as_json=as_json)


@exceptions.command("complete")
def complete(
    exception_id: Identifier,
    step: Annotated[str, typer.Argument(help="The name of the step that is waited for.")],
    failed: Annotated[bool, typer.Option("--failed", help="It cannot be done.")] = False,
    note: Note = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    project: Project = OWN_PROJECT,
    as_json: AsJson = False,
) -> None:
    """Say that a manual step of the playbook was done; the playbook goes on from there."""
    body = {"status": "failed" if failed else "succeeded", **_with("note", note)}
    path = f"{path_of(project, exception_id)}playbook/steps/{segment(step)}/complete/"
    with connected(url, key) as client:
        said = client.post(path, body)
    _tell(said, "The playbook goes on.", as_json=as_json)


@exceptions.command("resolve")
def resolve(
    exception_id: Identifier,
    reason: Why,
    url: Url = DEFAULT_URL,
    key: Key = None,
    project: Project = OWN_PROJECT,
    as_json: AsJson = False,
) -> None:
    """Say that an exception which waits for a person is done."""
    with connected(url, key) as client:
        said = client.post(f"{path_of(project, exception_id)}resolve/", {"reason": reason})
    _tell(said, "The exception is resolved.", as_json=as_json)


@exceptions.command("reprocess")
def reprocess(
    exception_id: Identifier,
    reason: Note = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    project: Project = OWN_PROJECT,
    as_json: AsJson = False,
) -> None:
    """Have the whole chain done again for an exception, from its first stage."""
    with connected(url, key) as client:
        path = f"{path_of(project, exception_id)}reprocess/"
        said = client.post(path, _with("reason", reason))
    _tell(said, "The exception is processed again.", as_json=as_json)


@exceptions.command("approvals")
def list_approvals(
    state: Annotated[
        str | None, typer.Option(help="pending, approved, rejected, expired or void.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="So many, the newest.")] = 50,
    url: Url = DEFAULT_URL,
    key: Key = None,
    project: Project = OWN_PROJECT,
    as_json: AsJson = False,
) -> None:
    """List what people were asked to decide."""
    with connected(url, key) as client:
        found = client.pages(f"/approvals/{project}/", {"state": state}, limit)
    if as_json:
        show_document(found.text())
        return
    columns = ("approvalId", "exceptionId", "state", "rule", "reason", "expiresAt", "decidedBy")
    show_table(columns, ([each[name] for name in columns] for each in found.values()))


@exceptions.command("approve")
def approve(
    approval: Approval,
    note: Note = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    project: Project = OWN_PROJECT,
    as_json: AsJson = False,
) -> None:
    """Approve: the chain goes on. Needs the scope `approve`."""
    with connected(url, key) as client:
        said = client.post(f"{_approval(client, project, approval)}approve/", _with("note", note))
    _tell(said, "Approved.", as_json=as_json)


@exceptions.command("reject")
def reject(
    approval: Approval,
    note: Note = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    project: Project = OWN_PROJECT,
    as_json: AsJson = False,
) -> None:
    """Reject: the exception is blocked. Needs the scope `approve`."""
    with connected(url, key) as client:
        said = client.post(f"{_approval(client, project, approval)}reject/", _with("note", note))
    _tell(said, "Rejected.", as_json=as_json)


def _approval(client: Client, project: str, name: str) -> str:
    """The path of an approval, or of the one that is pending about an exception of this id. A key
    that may not read names the approval."""
    path = f"/approvals/{project}/"
    filters: dict[str, Any] = {"state": "pending", "exception_id": name}
    try:
        found = client.pages(path, filters, 1).values()
    except Refused:
        found = []
    return f"{path}{segment(found[0]['approvalId'] if found else name)}/"


def _with(name: str, value: str | None) -> dict[str, str]:
    return {} if value is None else {name: value}


def _tell(document: str, sentence: str, *, as_json: bool) -> None:
    if as_json:
        show_document(document)
    else:
        typer.echo(sentence)
