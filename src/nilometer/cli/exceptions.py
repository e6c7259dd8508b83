"""`nilometer exceptions`: raise exceptions, and see what became of them."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

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
from nilometer.cli.exception_decisions import path_of

# The group with the commands of both.
from nilometer.cli.exception_letters import exceptions
from nilometer.cli.output import show_table, visible
from nilometer.errors import InvalidInput, Unavailable

_COLUMNS = ("id", "received", "status", "severity", "type", "source", "playbook", "owner")
_SHOWN = (
    *("exceptionId", "status", "reason", "severity", "exceptionType", "sourceSystem", "domain"),
    *("entity", "amount", "occurredAt", "receivedAt", "closedAt", "duplicateOf", "slaDeadline"),
    *("slaState", "pack", "packVersion", "confidence", "playbook", "step", "owner", "run"),
)
_WATCHED = 100

Identifier = Annotated[str, typer.Argument(metavar="ID", help="As `exceptions list` shows it.")]
Status = Annotated[str | None, typer.Option(help="Such as open, waiting or resolved.")]
Severity = Annotated[str | None, typer.Option(help="low, medium, high or critical.")]
Kind = Annotated[str | None, typer.Option("--type", help="Only this exception type.")]
Source = Annotated[str | None, typer.Option(help="Only those of this system.")]
Owner = Annotated[str | None, typer.Option(help="Only this owner's.")]


@exceptions.command("raise")
def raise_exception(
    kind: Annotated[str, typer.Argument(metavar="TYPE", help="What went wrong.")],
    source: Annotated[str, typer.Option(help="The system where it did.")],
    severity: Severity = None,
    payload: Annotated[
        str | None, typer.Option(help="A JSON object, @FILE with one, or - for standard input.")
    ] = None,
    domain: Annotated[str | None, typer.Option(help="The domain that it belongs to.")] = None,
    occurred_at: Annotated[
        str | None, typer.Option(help="When, as 2026-01-02T03:04:05Z; now by default.")
    ] = None,
    idempotency_key: Annotated[
        str | None, typer.Option(help="The same key again raises nothing new.")
    ] = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    project: Project = OWN_PROJECT,
    as_json: AsJson = False,
) -> None:
    """Raise an exception; its id is printed once it is durable. A project key may do this, too."""
    sent = {
        "exception_type": kind,
        "source_system": source,
        "severity": severity,
        "domain": domain,
        "occurred_at": occurred_at,
    }
    body = {name: value for name, value in sent.items() if value is not None}
    headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
    with connected(url, key) as client:
        if payload is not None:
            body["payload"] = _payload(payload)
        text = client.post(path_of(project), body, headers)
    if as_json:
        show_document(text)
    else:
        typer.echo(visible(json.loads(text)["exceptionId"]))


@exceptions.command("list")
def list_exceptions(
    status: Status = None,
    severity: Severity = None,
    kind: Kind = None,
    source: Source = None,
    owner: Owner = None,
    since: Annotated[str | None, typer.Option("--from", help="Accepted then or later.")] = None,
    until: Annotated[str | None, typer.Option("--to", help="Accepted before then.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="So many, the newest.")] = 50,
    url: Url = DEFAULT_URL,
    key: Key = None,
    project: Project = OWN_PROJECT,
    as_json: AsJson = False,
) -> None:
    """List exceptions, newest first."""
    filters = _filters(status, severity, kind, source, owner) | {"from": since, "to": until}
    with connected(url, key) as client:
        found = client.pages(path_of(project), filters, limit)
    if as_json:
        show_document(found.text())
    else:
        show_table(_COLUMNS, (_row(each) for each in found.values()))


@exceptions.command("show")
def show(
    exception_id: Identifier,
    url: Url = DEFAULT_URL,
    key: Key = None,
    project: Project = OWN_PROJECT,
    as_json: AsJson = False,
) -> None:
    """Show one exception: how it stands, what was sent, and everything that happened to it."""
    with connected(url, key) as client:
        path = path_of(project, exception_id)
        text = client.get(path)
        if as_json:
            show_document(text)
            return
        found: dict[str, Any] = json.loads(text)
        events = list(_events(client, path, after=0))
    rows = [(name, found[name]) for name in _SHOWN if found[name] is not None]
    show_table(("exception", ""), rows)
    typer.echo(visible(json.dumps(found["payload"], ensure_ascii=False)))
    show_table(
        ("", "at", "event", "by", "caused by", "what"),
        (_told(event, events) for event in events),
    )


@exceptions.command("tail")
def tail(
    status: Status = None,
    severity: Severity = None,
    kind: Kind = None,
    source: Source = None,
    owner: Owner = None,
    limit: Annotated[
        int, typer.Option(min=0, max=_WATCHED, help="Begin with all events of so many.")
    ] = 10,
    interval: Annotated[
        float, typer.Option(min=0.1, max=3600, help="Seconds between two looks.")
    ] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="End after the first look.")] = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
    project: Project = OWN_PROJECT,
    as_json: AsJson = False,
) -> None:
    """Print what happens to the 100 newest exceptions, an event a line, until Ctrl-C."""
    filters = _filters(status, severity, kind, source, owner)
    with connected(url, key) as client:
        watch = _Watch(client, path_of(project), filters)
        watch.look(print_events=limit, as_json=as_json)
        try:
            while not once:
                time.sleep(interval)
                try:
                    watch.look(print_events=_WATCHED, as_json=as_json)
                except Unavailable as error:
                    typer.echo(f"nilometer: {error.detail}", err=True)
        except KeyboardInterrupt:
            return


class _Watch:
    """What was printed of each exception already."""

    def __init__(self, client: Client, path: str, filters: Mapping[str, Any]) -> None:
        self._client = client
        self._path = path
        self._filters = filters
        self._last: dict[str, int] = {}

    def look(self, *, print_events: int, as_json: bool) -> None:
        """Print what is new of the newest exceptions, and note the others as seen."""
        found = self._client.pages(self._path, self._filters, _WATCHED).values()
        new: list[dict[str, Any]] = []
        for number, each in enumerate(found):
            name, sequence = each["exceptionId"], each["sequence"]
            seen = self._last.get(name, 0)
            if number < print_events and sequence > seen:
                events = list(_events(self._client, f"{self._path}{segment(name)}/", after=seen))
                sequence = events[-1]["sequence"] if events else sequence
                new += events
            self._last[name] = sequence
        self._last = {each["exceptionId"]: self._last[each["exceptionId"]] for each in found}
        for event in sorted(new, key=lambda event: (event["occurredAt"], event["sequence"])):
            if as_json:
                show_document(json.dumps(event))
            else:
                typer.echo(visible(_line(event)))
        sys.stdout.flush()


def _events(client: Client, path: str, *, after: int) -> Iterator[dict[str, Any]]:
    yield from client.pages(f"{path}events/", {"after": after}, 1_000_000).values()


def _filters(
    status: str | None,
    severity: str | None,
    kind: str | None,
    source: str | None,
    owner: str | None,
) -> dict[str, Any]:
    given = {"status": status, "severity": severity, "type": kind, "source": source}
    return {**given, "owner": owner}


def _payload(given: str) -> Any:
    try:
        if given == "-":
            text = sys.stdin.read()
        else:
            text = Path(given[1:]).read_text("utf-8") if given.startswith("@") else given
        return json.loads(text)
    except (OSError, ValueError) as error:
        raise InvalidInput(f"the payload cannot be read: {visible(str(error))}") from None


def _row(found: dict[str, Any]) -> tuple[object, ...]:
    names = ("exceptionId", "receivedAt", "status", "severity", "exceptionType", "sourceSystem")
    return tuple(found[name] for name in (*names, "playbook", "owner"))


def _told(event: dict[str, Any], events: list[dict[str, Any]]) -> tuple[object, ...]:
    cause = event["causationId"]
    by = event["actor"]
    caused = next((each["sequence"] for each in events if each["eventId"] == cause), cause)
    return (
        *(event["sequence"], event["occurredAt"], event["type"], f"{by['kind']}:{by['id']}"),
        *(caused, event["summary"]),
    )


def _line(event: dict[str, Any]) -> str:
    return (
        f"{event['occurredAt']} {event['exceptionId']} {event['sequence']:>3} "
        f"{event['type']} {event['summary']}"
    )
